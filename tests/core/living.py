"""A service of three parts that say what happens to them; the arguments say which part misbehaves, and how.

`living.py [PART:FAULT …]`, faults: fail-start, hang-start, fail-run, end-early, fail-stop, hang-stop, block-stop.
"""

from __future__ import annotations

import asyncio
import sys
import time

from holdtrue_core.lifecycle import App, run
from holdtrue_core.settings import ServiceSettings
from pydantic_settings import SettingsConfigDict

FAULTS = dict(argument.split(":") for argument in sys.argv[1:] if ":" in argument)
sys.argv[1:] = [argument for argument in sys.argv[1:] if ":" not in argument]


class Living(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="HOLDTRUE_LIVING_")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Talker:
    def __init__(self, name: str) -> None:
        self.name = name
        self._fault = FAULTS.get(name, "")
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        say(f"start {self.name}")
        if self._fault == "fail-start":
            raise OSError("the port is taken")
        if self._fault == "hang-start":
            await asyncio.Event().wait()

    async def run(self) -> None:
        if self._fault == "fail-run":
            raise RuntimeError("it broke")
        if self._fault == "end-early":
            return
        await self._stopping.wait()
        await asyncio.sleep(0.01)  # what was in hand is finished after the stop was asked for
        say(f"end {self.name}")

    async def stop(self) -> None:
        say(f"stop {self.name}")
        if self._fault == "fail-stop":
            raise RuntimeError("it would not")
        if self._fault == "hang-stop":
            await asyncio.Event().wait()
        if self._fault == "block-stop":
            time.sleep(60)  # noqa: ASYNC251  exactly what must not keep a service alive
        self._stopping.set()

    async def announce(self, *, ready: bool) -> None:
        say(f"ready {self.name}" if ready else f"not ready {self.name}")


async def build(_settings: Living) -> list[Talker]:
    return [Talker("a"), Talker("b"), Talker("c")]


if __name__ == "__main__":
    run(App("living", Living, build))
