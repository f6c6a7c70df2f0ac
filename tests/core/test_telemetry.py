from __future__ import annotations

import http.client
import json
import logging
from typing import TYPE_CHECKING

import pytest
import structlog
from holdtrue_core.settings import ServiceSettings
from holdtrue_core.telemetry import MetricsServer, configure_logging
from prometheus_client import Counter

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_lines_are_json_on_stderr_with_the_ids_in_hand(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("trainer", "info", "json")
    with structlog.contextvars.bound_contextvars(event_id="e1"):
        structlog.stdlib.get_logger("holdtrue.x").info("worked", rows=3)
    logging.getLogger("foreign").warning("odd %s", "thing")
    structlog.stdlib.get_logger("holdtrue.x").debug("hidden")
    captured = capsys.readouterr()
    assert captured.out == ""
    ours, foreign = map(json.loads, captured.err.splitlines())
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        "service": "trainer",
        "event": "worked",
        "rows": 3,
        "event_id": "e1",
        "level": "info",
        "logger": "holdtrue.x",
    }
    assert (foreign["event"], foreign["level"], foreign["service"]) == ("odd thing", "warning", "trainer")


def test_an_exception_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("trainer", "info", "json")
    structlog.stdlib.get_logger("x").error("failed", exc_info=RuntimeError("it broke"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "RuntimeError: it broke" in json.loads(line)["exception"]


def test_tracebacks_never_show_the_values_of_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("trainer", "info", "console")
    password = "tell" + "-nobody"
    try:
        json.loads(password[:0])
    except ValueError:
        structlog.stdlib.get_logger("x").exception("failed")
    shown = capsys.readouterr().err
    assert "JSONDecodeError" in shown
    assert "tell-nobody" not in shown


def test_control_characters_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("trainer", "info", "json")
    structlog.stdlib.get_logger("x").info("named", name='a\n{"event": "forged"}\x1b[31m')
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "named"


def test_people_get_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("trainer", "debug", "console")
    structlog.stdlib.get_logger("x").debug("worked", rows=3)
    line = capsys.readouterr().err
    assert "worked" in line
    assert "rows=3" in line


async def test_metrics_are_served_until_the_stop() -> None:
    counter = Counter("holdtrue_test_things", "Things", ["kind"])
    counter.labels("good").inc(2)
    server = MetricsServer(ServiceSettings())
    await server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/metrics")
    assert b'holdtrue_test_things_total{kind="good"} 2.0' in connection.getresponse().read()
    connection.close()
    await server.stop()
    await server.run()
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection("127.0.0.1", server.port, timeout=10).connect()


async def test_a_taken_metrics_port_is_refused() -> None:
    server = MetricsServer(ServiceSettings())
    await server.start()
    with pytest.raises(OSError, match="in use"):
        await MetricsServer(ServiceSettings(metrics_port=server.port)).start()
    await server.stop()
