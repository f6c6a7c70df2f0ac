"""Where the platform is: the addresses document, from the console or from the data folder of `holdtrue up`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_URL = "http://127.0.0.1:8080"
_PATH = "/.well-known/holdtrue"
_TIMEOUT_SECONDS = 5.0
_LONGEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses as `host:port`: `services` by name ("registry") and protocol ("grpc", "http")."""

    services: Mapping[str, Mapping[str, str]]
    kafka: str
    kafka_prefix: str = ""
    tenant: str = "default"
    version: str = ""
    source: str = field(default="", compare=False)

    def grpc(self, service: str) -> str:
        """Return the gRPC address of a service; raises Unavailable if the platform does not run it."""
        address = self.services.get(service, {}).get("grpc")
        if address is None:
            raise _unavailable(f"{self.source} names no gRPC address of the service {service}", "holdtrue status")
        return address


def find(url: str | None = None) -> Endpoints:
    """Return the addresses: from the console at `url` or `HOLDTRUE_URL`, else from the data folder, else `DEFAULT_URL`.

    The data folder is `HOLDTRUE_HOME`, by default `~/.local/share/holdtrue`. Raises Unavailable or InvalidArgument.
    """
    url = url or os.environ.get("HOLDTRUE_URL")
    if url is None and (file := data_folder() / "endpoints.json").exists():
        return parse(file.read_text(encoding="utf-8"), str(file))
    return _ask(url or DEFAULT_URL)


def data_folder() -> Path:
    """Return the folder in which `holdtrue up` keeps its data unless told otherwise."""
    chosen = os.environ.get("HOLDTRUE_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".local" / "share" / "holdtrue"


def parse(text: str, source: str) -> Endpoints:
    """Return what an addresses document says; `source` names it in errors."""
    try:
        document = cast("dict[str, Any]", json.loads(text))
        return Endpoints(
            services={name: dict(addresses) for name, addresses in document["services"].items()},
            kafka=document["kafka"],
            kafka_prefix=document.get("kafka_prefix", ""),
            tenant=document.get("tenant", "default"),
            version=document.get("version", ""),
            source=source,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unavailable(f"{source} is no addresses document of holdtrue: {error}", "holdtrue up") from error


def _ask(url: str) -> Endpoints:
    from urllib.error import URLError  # noqa: PLC0415  most commands read a file instead
    from urllib.request import urlopen  # noqa: PLC0415

    if not url.startswith(("http://", "https://")):
        from holdtrue.errors import InvalidArgument  # noqa: PLC0415

        raise InvalidArgument(f"HOLDTRUE_URL: expected http://host:port of the console, got {url!r}")
    address = url.rstrip("/") + _PATH
    try:
        with urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310  the scheme was checked
            return parse(answer.read(_LONGEST_BYTES).decode(), address)
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise _unavailable(f"nothing answers at {address}: {reason}", "holdtrue up") from error


def _unavailable(message: str, command: str) -> Exception:
    from holdtrue.errors import Unavailable  # noqa: PLC0415  it loads grpc, which only a failure needs

    return Unavailable(message, reason="UNREACHABLE", hint=f"start or check the platform: {command}")
