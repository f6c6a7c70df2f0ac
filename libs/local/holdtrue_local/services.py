"""The services of the platform: their ports, and the settings that each is given."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import ports
from .errors import StartError
from .kafka import PORT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Service:
    """One service as the platform sees it.

    Attributes:
        name: Also the name of its schema and role; its settings begin with `HOLDTRUE_<NAME>_`.
        ports: Default port by kind: `grpc`, `http`, `metrics`.
        folders: Settings that name a folder, and the folder below the data folder.
        database: Whether it owns a schema.
    """

    name: str
    ports: Mapping[str, int]
    folders: Mapping[str, str]
    database: bool = True

    def variable(self, setting: str) -> str:
        """The environment variable of a setting."""
        return f"HOLDTRUE_{self.name}_{setting}".upper()

    def command(self) -> list[str]:
        """The production entry point."""
        return [sys.executable, "-m", f"holdtrue_{self.name}"]


_KAFKA_PORT = 9092
_LAST_PORT = 65535
_BLOBS = {"blobs": "blobs"}
_LAKE = {"lake": "lake"}
SERVICES = (
    Service("registry", {"grpc": 5001, "http": 5000, "metrics": 6001}, _BLOBS | _LAKE),
    Service("trainer", {"grpc": 5002, "metrics": 6002}, _BLOBS | _LAKE),
    Service("deployer", {"grpc": 5003, "metrics": 6003}, {}),
    Service("monitor", {"grpc": 5004, "metrics": 6004}, _BLOBS),
    Service("inference", {"grpc": 8001, "metrics": 8002}, _BLOBS | {"cache": "inference"}, database=False),
    Service("console", {"http": 8080, "metrics": 9080}, {}, database=False),
)

Ports = dict[str, dict[str, int]]


def choose(names: Sequence[str]) -> list[Service]:
    """The services of these names, all of them when there is none.

    Raises:
        StartError: a name that is no service.
    """
    known = {service.name: service for service in SERVICES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise StartError(f"there is no service {unknown[0]!r}; the services are {', '.join(known)}")
    return [service for service in SERVICES if not names or service.name in names]


def choose_ports(services: Sequence[Service], *, free: bool) -> Ports:
    """The ports of each service: as its environment variable says, otherwise the default or any free one.

    Raises:
        StartError: a variable that is no port.
    """

    def port(service: Service, kind: str, default: int) -> int:
        return _wished(service.variable(f"{kind}_port")) or (ports.free_port() if free else default)

    return {s.name: {kind: port(s, kind, default) for kind, default in s.ports.items()} for s in services}


def kafka_port(*, free: bool) -> int:
    """The port of our own Kafka: `HOLDTRUE_KAFKA_PORT`, otherwise Kafka's usual one or any free one."""
    return _wished(PORT_VARIABLE) or (ports.free_port() if free else _KAFKA_PORT)


def _wished(variable: str) -> int | None:
    """The port that an environment variable names, if it is set."""
    text = os.environ.get(variable)
    if text is None:
        return None
    if not (text.isdecimal() and 0 < int(text) <= _LAST_PORT):
        raise StartError(f"{variable}: expected a port from 1 to {_LAST_PORT}, got {text!r}; correct it, or unset it")
    return int(text)


def check_ports(services: Sequence[Service], chosen: Ports) -> None:
    """Make sure that every port can be had.

    Raises:
        StartError: which is taken, by whom, and what to do.
    """
    for service in services:
        for kind, port in chosen[service.name].items():
            ports.check(port, f"{service.name}, {kind}", service.variable(f"{kind}_port"))


def addresses(chosen: Ports) -> dict[str, dict[str, str]]:
    """Where people and programs find the services: by name and protocol."""
    return {
        name: {kind: f"127.0.0.1:{port}" for kind, port in ports.items() if kind != "metrics"}
        for name, ports in chosen.items()
    }


def environment(service: Service, data: Path, chosen: Ports, *, kafka: str, postgres: str | None) -> dict[str, str]:
    """The settings of one service, beside what our own environment already says."""
    settings = {f"{kind}_port": str(port) for kind, port in chosen[service.name].items()}
    settings |= {setting: str(data / folder) for setting, folder in service.folders.items()}
    settings |= {"kafka": kafka, "instance_id": service.name}
    if service.name == "console":
        settings["services"] = json.dumps(addresses(chosen))
    if postgres is not None:
        settings["postgres_dsn"] = postgres
    return {service.variable(setting): value for setting, value in settings.items()}
