"""The console's HTTP: the page, its live stream, the addresses document, health."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from holdtrue_core.http import create_app
from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from holdtrue_console.page import Page
    from holdtrue_console.sources import Sources

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
MOST_STREAMS = 100
"""Pages that may be live at once; the next one is told to ask later."""
_KEEP_ALIVE_SECONDS = 15.0


class Streams:
    """The live pages: ends them when the service stops, so that nothing waits for a browser."""

    name = "streams"

    def __init__(self) -> None:
        """Begin with none."""
        self.stopping = asyncio.Event()
        self.open = 0

    async def start(self) -> None:
        """Nothing to prepare."""

    async def run(self) -> None:
        """Wait for the stop."""
        await self.stopping.wait()

    async def stop(self) -> None:
        """End all streams."""
        self.stopping.set()


class _Headers:
    """Adds the security headers to every answer; written as plain ASGI so that streams are not buffered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, answer)


def create(sources: Sources, page: Page, streams: Streams, endpoints: Mapping[str, Any], refresh: float) -> FastAPI:
    """Return the app. `endpoints` is the addresses document, `refresh` the seconds between looks for news."""
    app = create_app("holdtrue console")
    app.add_middleware(_Headers)
    app.mount("/static", StaticFiles(packages=[("holdtrue_console", "static")]))

    @app.get("/")
    async def overview(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]  the route is its use
        seen = await sources.overview()
        if _wants_json(request):
            return JSONResponse(asdict(seen))
        return HTMLResponse(page.whole(seen))

    @app.get("/stream")
    async def stream() -> Response:  # pyright: ignore[reportUnusedFunction]
        if streams.open >= MOST_STREAMS:
            return Response(status_code=503, headers={"retry-after": "10"})
        return StreamingResponse(_live(sources, page, streams, refresh), media_type="text/event-stream")

    @app.get("/.well-known/holdtrue")
    async def well_known() -> Response:  # pyright: ignore[reportUnusedFunction]
        return JSONResponse(dict(endpoints))

    @app.get("/health")
    async def health() -> Response:  # pyright: ignore[reportUnusedFunction]
        return JSONResponse({"status": "ok"})

    return app


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


async def _live(sources: Sources, page: Page, streams: Streams, refresh: float) -> AsyncIterator[str]:
    """Yield the parts of the page that changed since the last look, as one server-sent event with JSON."""
    sent: dict[str, str] = {}
    loop = asyncio.get_running_loop()
    last = loop.time()
    streams.open += 1
    try:
        while not streams.stopping.is_set():
            now = page.fragments(await sources.overview())
            news = {name: html for name, html in now.items() if sent.get(name) != html}
            if news or loop.time() - last > _KEEP_ALIVE_SECONDS:
                sent, last = now, loop.time()
                yield f"data: {json.dumps(news)}\n\n"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(streams.stopping.wait(), refresh)
    finally:
        streams.open -= 1
