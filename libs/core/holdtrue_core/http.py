"""HTTP where people or foreign clients need it: a FastAPI app whose errors are RFC 9457 problems, and its server."""

from __future__ import annotations

import contextlib
import socket
from http import HTTPStatus
from typing import Any, cast

import structlog
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from holdtrue_core.errors import FieldViolation, HoldtrueError, Internal, InvalidArgument
from holdtrue_core.ids import uuid7

_GRACE_SECONDS = 10
_LOOPBACK = ("127.0.0.1", "localhost")
_log = structlog.stdlib.get_logger("holdtrue.http")


class Problem(JSONResponse):
    """A problem document."""

    media_type = "application/problem+json"


def create_app(title: str) -> FastAPI:
    """Return an app without routes whose every error is a problem document."""
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(HoldtrueError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_fault)
    return app


async def _on_error(request: Request, error: Exception) -> Problem:
    return _problem(request, cast("HoldtrueError", error))


async def _on_invalid(request: Request, error: Exception) -> Problem:
    faults = cast("RequestValidationError", error).errors()
    violations = [FieldViolation(".".join(str(step) for step in f["loc"]), f["msg"]) for f in faults]
    text = "; ".join(f"{v.field}: {v.description}" for v in violations)
    return _problem(request, InvalidArgument(text, violations=violations))


async def _on_http(request: Request, error: Exception) -> Problem:
    exception = cast("HTTPException", error)
    phrase = HTTPStatus(exception.status_code).phrase
    body = _body(request, exception.status_code, phrase, f"{request.method} {request.url.path}: {exception.detail}")
    return Problem(body, exception.status_code, headers=exception.headers)


async def _on_fault(request: Request, error: Exception) -> Problem:
    error_id = uuid7()
    _log.error("a request failed by our fault", path=request.url.path, error_id=error_id, exc_info=error)
    hidden = Internal(
        f"internal error {error_id}; the log of the service has its cause", metadata={"error_id": error_id}
    )
    return _problem(request, hidden)


def _problem(request: Request, error: HoldtrueError) -> Problem:
    body = _body(request, error.http_status, error.reason.replace("_", " ").capitalize(), error.message)
    body |= {"reason": error.reason, "retriable": error.retriable}
    if error.metadata:
        body["metadata"] = error.metadata
    if error.violations:
        body["violations"] = [{"field": v.field, "description": v.description} for v in error.violations]
    return Problem(body, error.http_status)


def _body(request: Request, status: int, title: str, detail: str) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": title,
        "status": int(status),
        "detail": detail,
        "instance": request.url.path,
    }


class HttpServer:
    """Serves an ASGI app with uvicorn; lives as a part of a service."""

    name = "http"

    def __init__(self, app: Any, host: str, port: int) -> None:  # noqa: ANN401  any ASGI application
        """Keep the app and where to bind; port 0: any free one."""
        self._host = host
        self._port = port
        self._server = _Server(
            uvicorn.Config(
                _guarded(app, host),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )

    @property
    def port(self) -> int:
        """The port that is bound, after the start."""
        return self._socket.getsockname()[1]

    async def start(self) -> None:
        """Bind; raises OSError where the port is taken."""
        self._socket = socket.create_server((self._host, self._port), backlog=2048)
        self._socket.setblocking(False)

    async def run(self) -> None:
        """Serve until the stop."""
        await self._server.serve([self._socket])

    async def stop(self) -> None:
        """Take no new requests; let those in hand end, for at most ten seconds."""
        self._server.should_exit = True


def _guarded(app: Any, host: str) -> Any:  # noqa: ANN401  any ASGI application
    """On loopback answer only those who asked for it by name: a web page could let its own name point there."""
    return TrustedHostMiddleware(app, _LOOPBACK) if host in _LOOPBACK else app


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the service."""

    def capture_signals(self) -> Any:  # noqa: ANN401
        """Capture none."""
        return contextlib.nullcontext()
