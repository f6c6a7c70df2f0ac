"""Arguments that several commands take."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from holdtrue.cli.exits import UsageError

if TYPE_CHECKING:
    from holdtrue.client import Client

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_MOST_SECONDS = 36_500 * 86_400.0  # a hundred years
_MOST_DIGITS = 18  # numbers of versions travel as 64 bits
MOST_INT = 2**63 - 1
"""Largest number that can be sent."""
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


@dataclass(frozen=True, slots=True)
class Selector:
    """`name`, `name@13`, `name@latest` or `name@champion`."""

    name: str
    version: int | Literal["latest", "champion"] | None

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Read a selector; raises UsageError."""
        name, at, version = text.partition("@")
        if not name or (at and not version):
            raise UsageError(f"expected NAME or NAME@VERSION, got {text!r}")
        if version == "latest" or version == "champion":  # noqa: PLR1714  the type checker understands this
            return cls(name, version)
        if version and not (version.isdecimal() and len(version) <= _MOST_DIGITS and int(version)):
            raise UsageError(f"{text}: expected a version number from 1, latest or champion after @, got {version!r}")
        return cls(name, int(version) if version else None)

    def model_version(self, client: Client) -> int:
        """Return the number of the model version that it means; the newest if it names none."""
        if isinstance(self.version, int):
            return self.version
        if self.version == "champion":
            return _champion(client, self.name)
        return client.models.version(self.name).model_version.version

    def dataset_version(self) -> int:
        """Return the number of the dataset version, 0 for the newest; raises UsageError."""
        if self.version == "champion":
            raise UsageError(f"{self.name}@champion: datasets have no champion; write a number or latest")
        return self.version if isinstance(self.version, int) else 0


def _champion(client: Client, name: str) -> int:
    from holdtrue_contracts.deployer.v1.deployments_pb2 import Role  # noqa: PLC0415  only where it is asked for

    from holdtrue.errors import NotFound  # noqa: PLC0415

    client.models.get(name)
    try:
        revisions = client.deployments.get(name).state.revisions
    except NotFound:
        revisions = ()
    for revision in revisions:
        if revision.role == Role.ROLE_CHAMPION:
            return revision.model_version
    raise NotFound(f"{name} has no champion yet", hint=f"deploy a version: holdtrue deploy {name}@latest --wait")


def seconds(text: str) -> float:
    """Read a duration such as 200ms, 30s, 10m, 2h or 7d; raises UsageError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"expected a duration such as 200ms, 30s, 10m, 2h or 7d, got {text!r}")
    if (value := float(match[1]) * _SECONDS[match[2]]) > _MOST_SECONDS:
        raise UsageError(f"expected a duration of at most 36500d, got {text!r}")
    return value


def percentages(text: str) -> list[float]:
    """Read steps such as 5,25,50,100; raises UsageError."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"expected percentages such as 5,25,50,100, got {text!r}") from None


def confirm(question: str, *, yes: bool) -> bool:
    """Ask a person, unless `yes` was said already; raises UsageError where there is nobody to ask."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is nobody to ask: repeat with --yes if you mean it.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
