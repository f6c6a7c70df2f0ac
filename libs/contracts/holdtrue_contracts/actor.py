"""Who did it: goes with every gRPC call, every event and every row that records a change."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import quote, unquote

DEFAULT_TENANT = "default"
"""The only tenant of an installation without tenants."""
METADATA_KEY = "holdtrue-actor"
"""Key of the header form in gRPC metadata."""
_PARTS = 4


class ActorKind(StrEnum):
    """What kind of thing acts."""

    PERSON = "person"
    SERVICE = "service"
    APPLICATION = "application"
    PRODUCER = "producer"


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or program of a tenant, with the roles it acts in."""

    tenant: str
    name: str
    kind: ActorKind
    roles: tuple[str, ...] = ()

    def to_header(self) -> bytes:
        """Return the canonical text form, ASCII: `tenant/kind/name/role,role`, each percent-encoded."""
        return _to_header(self)

    @classmethod
    def from_header(cls, header: bytes) -> Actor:
        """Read what `to_header` wrote; raises ValueError that says what is wrong."""
        return _from_header(header)


@lru_cache(maxsize=1024)
def _to_header(actor: Actor) -> bytes:
    roles = ",".join(quote(role, safe="") for role in actor.roles)
    return f"{quote(actor.tenant, safe='')}/{actor.kind}/{quote(actor.name, safe='')}/{roles}".encode()


@lru_cache(maxsize=1024)
def _from_header(header: bytes) -> Actor:
    parts = header.decode("ascii").split("/")
    if len(parts) != _PARTS:
        raise ValueError(f"an actor is written tenant/kind/name/roles, got {header!r}")
    tenant, kind, name, roles = parts
    if not tenant or not name:
        raise ValueError(f"an actor needs a tenant and a name, got {header!r}")
    return Actor(unquote(tenant), unquote(name), ActorKind(kind), tuple(unquote(r) for r in roles.split(",") if r))


def service_actor(name: str) -> Actor:
    """Return the actor of a service that acts by itself, for example `service_actor("trainer")`."""
    return Actor(DEFAULT_TENANT, name, ActorKind.SERVICE)


def local_person() -> Actor:
    """Return the user of the operating system who runs this process."""
    return Actor(DEFAULT_TENANT, getpass.getuser(), ActorKind.PERSON)
