"""`holdtrue datasets pins | pin | unpin | expire`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from holdtrue.cli.arguments import Selector, confirm, seconds
from holdtrue.cli.exits import Exit, UsageError
from holdtrue.cli.messages import plain
from holdtrue.cli.output import Output, details, show
from holdtrue.client import connect

if TYPE_CHECKING:
    from holdtrue_contracts.registry.v1.expiry_pb2 import ExpireVersionsResponse, Pin

_PINS = ["name", "pin", "kind", "reason", "created_at"]
_EXPIRED = ["name", "expired", "kept", "commits", "rows"]


def pins(dataset: str, /, *, output: Output = "table") -> None:
    """Show why versions of a dataset are kept: a model was trained on them, or a person has pinned them.

    Examples:
        holdtrue datasets pins payments
        holdtrue datasets pins payments -o json

    Args:
        dataset: Name of the dataset.
    """
    with connect() as client:
        rows = [_pin(dataset, each) for each in client.datasets.pins(dataset)]
    show(rows, _PINS, output, empty=f"no version of {dataset} is pinned")


def pin(version: str, name: str, /, *, reason: str, output: Output = "table") -> None:
    """Keep a version of a dataset: it does not expire as long as the pin is there.

    Examples:
        holdtrue datasets pin payments@3 audit-2026 --reason "the auditors have seen it"

    Args:
        version: The version, NAME@VERSION or NAME@latest.
        name: Name of the pin, for example that of a report or a case.
        reason: Why, for the record.
    """
    chosen = _version(version)
    with connect() as client:
        done = client.datasets.pin(chosen.name, chosen.dataset_version(), name, reason=reason)
    details(_pin(chosen.name, done), _PINS, output)


def unpin(version: str, name: str, /, *, output: Output = "table") -> None:
    """Withdraw a pin. Nothing happens to the version before it expires; the pins that it still has are shown.

    Examples:
        holdtrue datasets unpin payments@3 audit-2026

    Args:
        version: The version, NAME@VERSION or NAME@latest.
        name: Name of the pin.
    """
    chosen = _version(version)
    with connect() as client:
        left = client.datasets.unpin(chosen.name, chosen.dataset_version(), name)
    show([_pin(chosen.name, each) for each in left], _PINS, output, empty=f"{version} is pinned no more")


def expire(
    dataset: str,
    /,
    *,
    older: str,
    reason: str,
    yes: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    output: Output = "table",
) -> int:
    """Forget versions of a dataset that are older, except pinned ones and the newest.

    Their numbers are never given again. Rows that no version has any more are deleted, after an hour by default. It
    says what would happen and asks first.

    Examples:
        holdtrue datasets expire payments --older 365d --reason "kept for a year" --dry-run
        holdtrue datasets expire payments --older 365d --reason "kept for a year" --yes

    Args:
        dataset: Name of the dataset.
        older: Age of the versions, for example 90d or 12h.
        reason: Why, for the record.
        yes: Do not ask.
        dry_run: Only say what would happen.
    """
    before = datetime.now(UTC) - timedelta(seconds=seconds(older))
    with connect() as client:
        newest = client.datasets.get(dataset).latest_version
        plan = client.datasets.expire(dataset, before, reason=reason, dry_run=True)
        if dry_run:
            details(_expired(dataset, plan), _EXPIRED, output)
            return Exit.OK
        if not confirm(_question(dataset, plan), yes=yes):
            sys.stderr.write("nothing was changed\n")
            return Exit.FAILED
        done = client.datasets.expire(dataset, before, reason=reason, expected=newest)
        details(_expired(dataset, done), _EXPIRED, output)
    return Exit.OK


def _version(text: str) -> Selector:
    chosen = Selector.parse(text)
    if chosen.version is None:
        raise UsageError(f"expected a version, as in {chosen.name}@3 or {chosen.name}@latest, got {text}")
    return chosen


def _pin(dataset: str, pinned: Pin) -> dict[str, Any]:
    return plain(pinned) | {"name": f"{dataset}@{pinned.version}", "pin": pinned.name}


def _question(dataset: str, plan: ExpireVersionsResponse) -> str:
    row = _expired(dataset, plan)
    named = ", ".join(row["expired"][:20]) or "no version"
    kept = f" Kept by pins: {', '.join(row['kept'][:20])}." if plan.kept else ""
    return f"{named} would be forgotten, and {plan.rows:,} rows deleted that no other version has.{kept}"


def _expired(dataset: str, done: ExpireVersionsResponse) -> dict[str, Any]:
    return {
        "name": dataset,
        "expired": [f"{dataset}@{number}" for number in done.expired],
        "kept": [f"{dataset}@{each.version} ({each.name})" for each in done.kept],
        "commits": ", ".join(f"{s.first}" if s.first == s.last else f"{s.first}-{s.last}" for s in done.commits),
        "rows": done.rows,
    }
