"""The real platform for a test: processes of its own, free ports, a home folder that shares only the downloads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from holdtrue_local import control
from holdtrue_local.demo.pace import FAST
from holdtrue_local.home import home as platform_home
from holdtrue_local.home import socket_dir
from holdtrue_local.processes import tethered

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

ROOT = Path(__file__).parents[2]
HOLDTRUE = (sys.executable, str(Path(sys.executable).with_name("holdtrue")))
_BACK_SECONDS = 120.0
_POLL_SECONDS = 0.4  # the supervisor measures everybody's memory for each answer: asking more often would slow all

Program = dict[str, Any]
"""What the platform's status says about one program."""


@dataclass(frozen=True)
class Outage:
    """A part that was killed: seconds since the epoch from the kill until it answered again."""

    part: str
    began: float
    ended: float


@dataclass(frozen=True)
class Running:
    """The platform that runs on a data folder."""

    data: Path
    endpoints: Mapping[str, Any]

    @property
    def console(self) -> str:
        return f"http://{self.endpoints['services']['console']['http']}"

    @property
    def postgres(self) -> str:
        """Folder of the socket where the superuser `postgres` is trusted."""
        return str(socket_dir(self.data / "run" / "postgres"))

    def kill(self, name: str, *, away: float = 0.0) -> Outage:
        """Kill -9 a part that serves, also what is started in its place within `away` seconds; wait until it is back.

        The supervisor starts at once what dies, so only killing keeps a part away.
        """
        victim = self._answering(name, but=None)
        began = time.time()
        os.kill(victim, signal.SIGKILL)
        while time.time() < began + away:
            program = self._program(name)
            if program["pid"] not in {None, victim}:
                assert program["state"] != "ready", f"{name} was not kept away"
                victim = cast("int", program["pid"])
                os.kill(victim, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
        self._answering(name, but=victim)
        return Outage(name, began, time.time())

    def _answering(self, name: str, but: int | None) -> int:
        """Wait until the part serves as another process than `but`; its process id."""
        deadline = time.monotonic() + _BACK_SECONDS
        while True:
            program = self._program(name)
            if program["state"] == "ready" and program["answers"] and program["pid"] != but:
                return cast("int", program["pid"])
            assert time.monotonic() < deadline, f"{name} is not back after {_BACK_SECONDS:.0f} s: {program}"
            time.sleep(_POLL_SECONDS)

    def _program(self, name: str) -> Program:
        status = control.status(self.data, _BACK_SECONDS)
        assert status is not None, "the supervisor is gone"
        return next(program for program in status["programs"] if program["name"] == name)


def new_home(folder: Path) -> dict[str, str]:
    """Environment variables that name a new home for the platform, which shares only the downloads."""
    shared = platform_home() / "cache"
    shared.mkdir(parents=True, exist_ok=True)
    (folder / "cache").symlink_to(shared)
    return os.environ | {"HOLDTRUE_HOME": str(folder), "NO_COLOR": "1"}


@contextmanager
def running(home: Mapping[str, str], **settings: str) -> Generator[Running]:
    """`holdtrue up` on free ports with some settings; it ends with this process, however."""
    data = Path(home["HOLDTRUE_HOME"])
    with (data / "up.log").open("w") as log:
        command = tethered([*HOLDTRUE, "up", "--ports", "free"])
        up = subprocess.Popen(command, env={**home, **settings}, stdout=log, stderr=log)
    try:
        yield Running(data, _ready(up, data)["endpoints"])
    finally:
        up.terminate()
        up.wait(120)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A new home, on which nothing runs afterwards."""
    variables = new_home(tmp_path)
    yield variables
    subprocess.run([*HOLDTRUE, "down"], env=variables, check=True, timeout=120)


@pytest.fixture
def platform(home: dict[str, str]) -> Iterator[Running]:
    """The platform with the short settings of the quick demonstration."""
    with running(home, **FAST.service_settings(), HOLDTRUE_TRAINER_LEASE_SECONDS="5") as platform:
        yield platform


def _ready(up: subprocess.Popen[bytes], data: Path) -> dict[str, Any]:
    """Wait until everything is started."""
    while True:
        status = control.status(data, _BACK_SECONDS)
        if status and status["state"] == "ready":
            return status
        assert up.poll() is None, (data / "up.log").read_text()
        time.sleep(_POLL_SECONDS)
