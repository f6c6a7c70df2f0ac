"""Who answers a request: an immutable table, replaced as a whole by one assignment."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from holdtrue_contracts.deployer.v1.deployments_pb2 import Revision, Role

from holdtrue_inference.domain.errors import NotServing, UnknownModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WHOLE = 10_000
"""All of the traffic, in basis points."""


class Target(Protocol):
    """What a route leads to: something that answers for one revision."""

    @property
    def revision(self) -> Revision:
        """The revision that it answers for."""
        ...


T = TypeVar("T", bound=Target)


@dataclass(frozen=True)
class Deployment(Generic[T]):
    """The routes of one deployment.

    A key falls on one of 10,000 points by crc32(salt + key); the challenger owns the points below its weight. So a key
    keeps its revision while weights stand, and raising the challenger's weight takes no key away from it.
    """

    deployment_id: str
    name: str
    salt: bytes
    targets: tuple[T, ...]
    _seed: int = field(init=False, repr=False)
    _shares: tuple[tuple[int, T], ...] = field(init=False, repr=False)
    _versions: Mapping[str, T] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Lay the revisions out over the points. Raises ValueError if their weights are not whole."""
        object.__setattr__(self, "_seed", zlib.crc32(self.salt))
        object.__setattr__(self, "_shares", tuple(_shares(self.targets)))
        object.__setattr__(self, "_versions", {str(t.revision.model_version): t for t in self.targets})

    @property
    def default(self) -> T | None:
        """The revision with the largest share, the champion among equals; None while none answers."""
        return max((target for _, target in self._shares), key=_prominence, default=None)

    @property
    def keyed(self) -> bool:
        """Whether more than one revision answers, so that a key decides."""
        return len(self._shares) > 1

    @property
    def versions(self) -> list[str]:
        """Numbers of the model versions that are loaded, as text."""
        return list(self._versions)

    def choose(self, key: bytes) -> T:
        """The revision that answers the key. Raises NotServing while none has any traffic."""
        point = zlib.crc32(key, self._seed) * WHOLE >> 32
        for bound, target in self._shares:
            if point < bound:
                return target
        raise NotServing(f"model {self.name!r} has no revision with traffic yet; try again when its rollout has begun")

    def pinned(self, version: str) -> T:
        """The revision of that version, whatever its weight. Raises UnknownModel if it is not loaded."""
        target = self._versions.get(version)
        if target is None:
            loaded = ", ".join(self._versions) or "none"
            raise UnknownModel(f"model {self.name!r} has no version {version!r} here; loaded: {loaded}")
        return target


@dataclass(frozen=True)
class RoutingTable(Generic[T]):
    """All deployments that can be called, by name."""

    deployments: Mapping[str, Deployment[T]]

    def deployment(self, name: str) -> Deployment[T]:
        """The deployment of that name. Raises UnknownModel."""
        found = self.deployments.get(name)
        if found is None:
            raise UnknownModel(
                f"there is no model {name!r} here; served: {', '.join(sorted(self.deployments)) or 'none'}"
            )
        return found


def check_weights(revisions: Sequence[Revision]) -> None:
    """Raise ValueError unless the weights sum to the whole, or to nothing while no revision answers yet."""
    total = sum(revision.weight for revision in revisions)
    if total not in (0, WHOLE):
        weights = {revision.revision: revision.weight for revision in revisions}
        raise ValueError(f"weights of a deployment sum to {WHOLE} basis points or to 0, got {weights}")


def _shares(targets: Sequence[T]) -> list[tuple[int, T]]:
    check_weights([target.revision for target in targets])
    shares: list[tuple[int, T]] = []
    bound = 0
    for target in sorted(targets, key=lambda t: (t.revision.role != Role.ROLE_CHALLENGER, t.revision.slot)):
        if target.revision.weight:
            bound += target.revision.weight
            shares.append((bound, target))
    return shares


def _prominence(target: Target) -> tuple[int, bool]:
    return target.revision.weight, target.revision.role == Role.ROLE_CHAMPION
