from __future__ import annotations

import asyncio
import http.client
import json
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from holdtrue_core.errors import FieldViolation, InvalidArgument, Unavailable
from holdtrue_core.http import HttpServer, create_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI


def app() -> FastAPI:
    made = create_app("example")

    @made.get("/refused")
    async def refused() -> None:
        raise InvalidArgument("rows: too many", reason="TOO_MANY", violations=[FieldViolation("rows", "too many")])

    @made.get("/away")
    async def away() -> None:
        raise Unavailable("the registry is away", metadata={"service": "registry"})

    @made.get("/fault")
    async def fault() -> None:
        raise RuntimeError("the password is 123")

    @made.get("/number/{value}")
    async def number(value: int) -> int:
        return value

    return made


async def get(port: int, path: str, method: str = "GET") -> tuple[int, str, dict[str, Any]]:
    def ask() -> tuple[int, str, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["content-type"], json.loads(answer.read())

    return await asyncio.to_thread(ask)


def status_for(port: int, host: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/number/3", headers={"host": host})
    return connection.getresponse().status


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = HttpServer(app(), "127.0.0.1", 0)
    await server.start()
    running = asyncio.create_task(server.run())
    yield server.port
    await server.stop()
    await asyncio.wait_for(running, 10)


async def test_answers_without_error_are_untouched(port: int) -> None:
    assert await get(port, "/number/3") == (200, "application/json", 3)


async def test_errors_are_problem_documents(port: int) -> None:
    status, kind, body = await get(port, "/refused")
    assert (status, kind) == (422, "application/problem+json")
    assert body == {
        "type": "about:blank",
        "title": "Too many",
        "status": 422,
        "detail": "rows: too many",
        "instance": "/refused",
        "reason": "TOO_MANY",
        "retriable": False,
        "violations": [{"field": "rows", "description": "too many"}],
    }


async def test_metadata_and_what_is_retriable_are_told(port: int) -> None:
    status, _, body = await get(port, "/away")
    assert (status, body["reason"], body["retriable"], body["metadata"]) == (
        503,
        "UNAVAILABLE",
        True,
        {"service": "registry"},
    )


async def test_a_wrong_parameter_is_named(port: int) -> None:
    status, kind, body = await get(port, "/number/three")
    assert (status, kind) == (422, "application/problem+json")
    assert body["violations"][0]["field"] == "path.value"
    assert "path.value" in body["detail"]


@pytest.mark.parametrize(("path", "method", "status"), [("/nowhere", "GET", 404), ("/refused", "POST", 405)])
async def test_what_the_framework_refuses_is_a_problem_too(port: int, path: str, method: str, status: int) -> None:
    got, kind, body = await get(port, path, method)
    assert (got, kind, body["status"], body["instance"]) == (status, "application/problem+json", status, path)


async def test_a_fault_of_ours_gives_only_an_id_that_is_in_the_log(port: int) -> None:
    with structlog.testing.capture_logs() as logs:
        status, kind, body = await get(port, "/fault")
    assert (status, kind) == (500, "application/problem+json")
    assert "123" not in json.dumps(body)
    assert body["metadata"]["error_id"] in [log.get("error_id") for log in logs]


async def test_a_taken_port_is_refused(port: int) -> None:
    with pytest.raises(OSError, match="in use"):
        await HttpServer(app(), "127.0.0.1", port).start()


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("localhost:8080", 200), ("evil.example", 400)])
async def test_only_who_asks_for_this_machine_is_answered_on_loopback(port: int, host: str, status: int) -> None:
    assert await asyncio.to_thread(status_for, port, host) == status
