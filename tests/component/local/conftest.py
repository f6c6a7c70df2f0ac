"""The platform with a toy service on real servers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from holdtrue_local import control, services
from holdtrue_local.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOY = Path(__file__).with_name("toy")
HOLDTRUE = (sys.executable, str(Path(sys.executable).with_name("holdtrue")))


class Shell:
    """Runs commands as a person would, on one data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.environment = os.environ | {"PYTHONPATH": str(_TOY), "PYTHONUNBUFFERED": "1"}
        self._started: list[subprocess.Popen[str]] = []

    def start(self, command: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command and do not wait for it."""
        process = subprocess.Popen(
            [*HOLDTRUE, command, "--data", self.data, *arguments],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(command, *arguments, **environment)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess([command], process.returncode, out, err)

    def up(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the platform in the foreground and return when it is ready."""
        process = self.start("up", "--ports", "free", *arguments, **environment)
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("holdtrue is ready"), process.communicate()
        return process

    def end(self) -> None:
        """Leave nothing behind, however the test ended."""
        for process in self._started:
            process.kill()
            process.communicate()
        if (pid := control.running(self.data)) is not None:
            psutil.Process(pid).kill()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "data")
    yield shell
    shell.end()


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> services.Service:
    """The toy as the only service of this process's platforms."""
    monkeypatch.setenv("PYTHONPATH", str(_TOY))
    service = services.Service("toy", {"grpc": free_port(), "metrics": free_port()}, {})
    monkeypatch.setattr(services, "SERVICES", (service,))
    return service
