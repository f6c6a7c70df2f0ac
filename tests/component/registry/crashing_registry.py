"""A registry that kills itself with SIGKILL at the places where a crash hurts most.

HOLDTRUE_TEST_CRASH: `<place>:<chance>` with a place of PLACES or `any`. Everything else is the real service.
"""

from __future__ import annotations

import os
import random
import signal
from typing import TYPE_CHECKING, Any

from holdtrue_core.lifecycle import App, run
from holdtrue_lake import erasure_round, log
from holdtrue_lake.erasure_round import Round
from holdtrue_registry.app import build
from holdtrue_registry.settings import RegistrySettings
from holdtrue_registry.workers.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable

PLACES: dict[str, tuple[Any, str]] = {
    "append": (log, "append"),  # of refused records and of rows
    "record": (Engine, "_record"),  # after the table, before PostgreSQL
    "finish": (Engine, "_finish"),  # before dead letters and resume hint
    "erase": (erasure_round, "vacuum"),  # the rows are gone, their files are not
    "note": (Round, "_note"),  # a dataset is done, and nobody knows
    "finish-erasure": (Round, "finish"),  # everything is done but the key
}


def deadly(work: Callable[..., Any], chance: float) -> Callable[..., Any]:
    def around(*arguments: object) -> object:
        if random.random() < chance:  # noqa: S311  no secret
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments)

    return around


def arm(place: str, chance: float) -> None:
    owner, name = PLACES[place]
    setattr(owner, name, deadly(getattr(owner, name), chance))


if __name__ == "__main__":
    wanted, _, odds = os.environ.pop("HOLDTRUE_TEST_CRASH").partition(":")
    for known in PLACES:
        if wanted in (known, "any"):
            arm(known, float(odds))
    run(App("registry", RegistrySettings, build))
