"""HTTP of the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_core.http import create_app

if TYPE_CHECKING:
    from fastapi import FastAPI


def http_app() -> FastAPI:
    """Return the app: `/health` answers once the parts before it have started."""
    app = create_app("holdtrue registry")
    app.add_api_route("/health", _health, methods=["GET"])
    return app


async def _health() -> dict[str, str]:
    return {"status": "ok"}
