from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest
from holdtrue_core.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("living.py")
STARTED = ["start a", "start b", "start c", "ready a", "ready b", "ready c"]
STOPPED = [
    *("not ready a", "not ready b", "not ready c"),
    *("stop c", "end c", "stop b", "end b", "stop a", "end a"),
]


class Service:
    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, *arguments],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def wait_for(self, line: str) -> None:
        while line not in self.lines:
            read = self._out.readline()
            assert read, f"it ended without saying {line!r}; it said {self.lines}, {self.process.stderr}"
            self.lines.append(read.rstrip("\n"))

    def end(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=30)
        self.lines += out.splitlines()
        return self.process.returncode, err

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout
        return self.process.stdout


@pytest.fixture
def services() -> Iterator[list[Service]]:
    running: list[Service] = []
    yield running
    for service in running:
        if service.process.poll() is None:
            service.process.kill()
        service.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_parts_in_reverse_order_each_finishing_before_the_next(
    services: list[Service], number: signal.Signals
) -> None:
    services.append(service := Service())
    service.wait_for("ready c")
    service.process.send_signal(number)
    assert service.end()[0] == 0
    assert service.lines == STARTED + STOPPED


def test_a_failing_part_stops_the_rest_and_says_why(services: list[Service]) -> None:
    services.append(service := Service("b:fail-run"))
    status, log = service.end()
    assert status == 1
    assert service.lines[-5:] == ["stop c", "end c", "stop b", "stop a", "end a"]
    assert '"part": "b"' in log
    assert "RuntimeError: it broke" in log


def test_a_part_that_ends_early_stops_the_rest(services: list[Service]) -> None:
    services.append(service := Service("c:end-early"))
    status, log = service.end()
    assert status == 1
    assert service.lines[-4:] == ["stop b", "end b", "stop a", "end a"]
    assert "a part ended without being asked to" in log


def test_a_failed_start_stops_what_has_started_and_nothing_is_ready(services: list[Service]) -> None:
    services.append(service := Service("c:fail-start"))
    status, log = service.end()
    assert status == 1
    assert [line for line in service.lines if not line.startswith("not ready")] == [
        *("start a", "start b", "start c"),
        *("stop b", "end b", "stop a", "end a"),
    ]
    assert "OSError: the port is taken" in log


def test_a_signal_interrupts_a_start_that_hangs(services: list[Service]) -> None:
    services.append(service := Service("b:hang-start"))
    service.wait_for("start b")
    service.process.terminate()
    assert service.end()[0] == 0
    assert service.lines[-2:] == ["stop a", "end a"]


def test_a_part_that_fails_to_stop_does_not_keep_the_others_up(services: list[Service]) -> None:
    services.append(service := Service("c:fail-stop"))
    service.wait_for("ready c")
    service.process.terminate()
    status, log = service.end()
    assert status == 1
    assert service.lines[-4:] == ["stop b", "end b", "stop a", "end a"]
    assert "RuntimeError: it would not" in log


@pytest.mark.parametrize("fault", ["hang-stop", "block-stop"])
def test_past_the_grace_the_process_gives_up(services: list[Service], fault: str) -> None:
    services.append(service := Service(f"c:{fault}", HOLDTRUE_LIVING_GRACE_SECONDS="0.3"))
    service.wait_for("ready c")
    service.process.terminate()
    status, log = service.end()
    assert status == 3
    assert service.lines[-1] == "stop c"
    assert "not stopped after 0.3 s, giving up" in log


def test_wrong_settings_end_before_anything_starts(services: list[Service]) -> None:
    services.append(service := Service(HOLDTRUE_LIVING_LOG_LEVEL="loud", HOLDTRUE_LIVING_GRACE_SECOND="1"))
    status, log = service.end()
    assert (status, service.lines) == (2, [])
    assert "HOLDTRUE_LIVING_LOG_LEVEL" in log
    assert "HOLDTRUE_LIVING_GRACE_SECOND: no such setting; did you mean HOLDTRUE_LIVING_GRACE_SECONDS?" in log


def test_help_names_every_setting_and_needs_none(services: list[Service]) -> None:
    services.append(service := Service("--help", HOLDTRUE_LIVING_GRACE_SECONDS="never"))
    assert service.end()[0] == 0
    assert service.lines[0].startswith("usage: python -m holdtrue_living")
    for name, field in ServiceSettings.model_fields.items():
        assert f"HOLDTRUE_LIVING_{name.upper()}={field.default}  # {field.description}" in service.lines


def test_an_unknown_argument_starts_nothing(services: list[Service]) -> None:
    services.append(service := Service("--print-setings"))
    status, log = service.end()
    assert (status, service.lines) == (2, [])
    assert "unrecognized arguments: --print-setings" in log


def test_the_settings_can_be_printed(services: list[Service]) -> None:
    services.append(service := Service("--print-settings", HOLDTRUE_LIVING_GRACE_SECONDS="7"))
    assert service.end()[0] == 0
    assert service.lines[0].startswith("HOLDTRUE_LIVING_HOST=127.0.0.1  # ")
    assert any(line.startswith("HOLDTRUE_LIVING_GRACE_SECONDS=7.0  # ") for line in service.lines)
