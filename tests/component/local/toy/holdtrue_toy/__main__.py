"""A service that does nothing but answer health checks; made to misbehave by its settings."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from holdtrue_core.lifecycle import App, run
from holdtrue_core.rpc import GrpcServer
from holdtrue_core.settings import DatabaseSettings, KafkaSettings, ServiceSettings
from pydantic_settings import SettingsConfigDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_core.lifecycle import Part


_CHILD = """
import sys, time
from holdtrue_core.process import die_with_parent
die_with_parent(int(sys.argv[1]))
time.sleep(1000)
"""


class ToySettings(ServiceSettings, DatabaseSettings, KafkaSettings):
    model_config = SettingsConfigDict(env_prefix="HOLDTRUE_TOY_")
    child: bool = False
    """Start a program of its own, as the trainer does."""


async def build(settings: ToySettings) -> Sequence[Part]:
    if settings.child:
        await asyncio.create_subprocess_exec(sys.executable, "-c", _CHILD, str(os.getpid()))
    return [GrpcServer(settings, [])]


if __name__ == "__main__":
    run(App("toy", ToySettings, build))
