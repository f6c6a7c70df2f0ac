"""`holdtrue data replay`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from holdtrue.cli.arguments import confirm
from holdtrue.cli.exits import Exit
from holdtrue.cli.messages import plain
from holdtrue.cli.output import Output, details, suggest
from holdtrue.cli.progress import progress
from holdtrue.client import connect

if TYPE_CHECKING:
    from holdtrue.replay import Replayed

_REPLAYED = ["dataset", "offered", "accepted", "version", "refused_again", "skipped"]


def replay(
    dataset: str,
    /,
    *,
    reason: str,
    batch: str = "",
    code: str = "",
    yes: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    output: Output = "table",
) -> int:
    """Offer refused records again, as they came, to be judged by the rules that are in force now.

    Each ends in the next version of the dataset, or is refused again with its new faults, exactly once. It says how
    many they are and asks first.

    Examples:
        holdtrue data replay payments --reason "negative amounts are refunds" --dry-run
        holdtrue data replay payments --code OUT_OF_RANGE --reason "negative amounts are refunds" --yes

    Args:
        dataset: Name of the dataset.
        reason: Why, for the record.
        batch: Only records of the batch with this id.
        code: Only records whose first fault is of this kind, for example OUT_OF_RANGE.
        yes: Do not ask.
        dry_run: Only count the records.
    """
    with connect() as client:
        plan = client.datasets.replay_page(dataset, batch, code, dry_run=True)
        count = plan.records + plan.left
        if dry_run:
            details(
                {"dataset": dataset, "offered": count, "skipped": dict(plan.skipped)}, _REPLAYED, output, name="dataset"
            )
            return Exit.OK
        if not confirm(f"{count:,} refused records of {dataset} would be offered again.", yes=yes):
            sys.stderr.write("nothing was changed\n")
            return Exit.FAILED
        with progress(dataset) as say:
            done = client.datasets.replay(dataset, batch=batch, code=code, reason=reason, progress=say)
    details(_row(dataset, done), _REPLAYED, output, name="dataset")
    if done.quarantined:
        suggest(f"holdtrue data rejects {dataset}", output)
    return Exit.OK


def _row(dataset: str, done: Replayed) -> dict[str, Any]:
    version = done.version
    return {
        "dataset": dataset,
        "offered": done.offered,
        "accepted": done.accepted,
        "version": f"{version.name}@{version.version}" if version else "",
        "refused_again": dict(done.quarantined),
        "skipped": dict(done.skipped),
        "published": plain(version) if version else None,
    }
