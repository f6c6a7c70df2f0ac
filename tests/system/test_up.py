"""`up` with all services under it ends without a trace, in the middle of the work, and the next one goes on."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import holdtrue as ht
import psutil
import pytest
from holdtrue_contracts.trainer.v1.trainer_service_pb2 import RunState
from holdtrue_local import control
from holdtrue_local.processes import is_alive

from tests.system.conftest import Running, new_home, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
_SLOW = """
estimator: GradientBoostingClassifier
parameters: {n_estimators: 400}
"""
_ROWS = [{"x": i / 300, "z": i % 7, "y": int(i % 11 > 5)} for i in range(600)]
_GONE_SECONDS = 60.0


class Family:
    """A running `up` and everything that it has started; whatever survives it is ended by `bury`."""

    def __init__(self) -> None:
        self._members: list[psutil.Process] = []

    def join(self, platform: Running) -> None:
        pid = control.running(platform.data)
        assert pid
        up = psutil.Process(pid)
        self._members = [up, *up.children(recursive=True)]

    @property
    def commands(self) -> list[str]:
        return [" ".join(member.cmdline()) for member in self._members]

    def end(self, number: signal.Signals) -> None:
        """Send a signal to `up` alone, and wait until nobody is left."""
        os.kill(self._members[0].pid, number)
        deadline = time.monotonic() + _GONE_SECONDS
        while left := [member for member in self._members if is_alive(member.pid)]:
            assert time.monotonic() < deadline, f"{left} survived {number.name}"
            time.sleep(0.1)

    def bury(self) -> None:
        for member in self._members:
            if member.is_running():  # and is no other process of that number
                member.kill()


@pytest.fixture
def family() -> Iterator[Family]:
    family = Family()
    yield family
    family.bury()


def test_killed_while_a_model_is_trained(tmp_path: Path, family: Family) -> None:
    home = new_home(tmp_path)
    with running(home, HOLDTRUE_TRAINER_LEASE_SECONDS="3") as platform:
        with ht.connect(platform.console) as client:
            client.datasets.add("numbers", _ROWS, label="y")
            run = client.runs.submit("slow", "numbers", recipe=_SLOW)
            while client.runs.get(run.spec.run_id).stage != "training":
                time.sleep(0.05)
        family.join(platform)
        assert any("holdtrue_trainer.child" in command for command in family.commands)
        family.end(signal.SIGKILL)

    with running(home, HOLDTRUE_TRAINER_LEASE_SECONDS="3") as platform:
        with ht.connect(platform.console) as client:
            trained = client.runs.wait(run.spec.run_id, timeout=300)
            assert (trained.run.state, trained.run.attempts) == (RunState.RUN_STATE_SUCCEEDED, 2)
            assert [view.model_version.version for view in client.models.versions("slow")] == [1]
        family.join(platform)
        family.end(signal.SIGINT)
    assert control.running(platform.data) is None
