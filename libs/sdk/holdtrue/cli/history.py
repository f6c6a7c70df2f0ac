"""`holdtrue datasets commits | diff | retract | rollback`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from holdtrue.cli.arguments import Selector, confirm
from holdtrue.cli.exits import Exit, UsageError
from holdtrue.cli.messages import plain
from holdtrue.cli.output import Output, details, show
from holdtrue.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdtrue_contracts.registry.v1.dataset_history_pb2 import (
        CompareVersionsResponse,
        RetractCommitsResponse,
        RollBackVersionResponse,
    )
    from holdtrue_contracts.registry.v1.datasets_pb2 import CommitRange

_COMMITS = ["number", "ingested_at", "accepted", "quarantined", "retracted", "batch_ids"]
_DIFF = ["name", "before", "rows", "rows_added", "rows_removed", "commits_added", "commits_removed", "schema_changes"]
_CHANGES = [
    "column", "psi", "missing_before", "missing_after", "mean_before", "mean_after", "std_before", "std_after",
    "appeared", "vanished",
]  # fmt: skip
_RETRACTED = ["name", "rows", "without", "rows_retracted", "batches", "flagged", "models", "reason"]
_ROLLED = ["name", "rows", "restores", "commits_added", "commits_removed", "rows_removed", "reason"]
_SPAN = re.compile(r"(\d{1,15})(?:-(\d{1,15}))?")


def commits(
    dataset: str,
    /,
    *,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 100,
    output: Output = "table",
) -> None:
    """Show the commits of a dataset, newest first: what versions are made of.

    Examples:
        holdtrue datasets commits payments
        holdtrue datasets commits payments --limit 5 -o json

    Args:
        dataset: Name of the dataset.
        limit: At most so many commits.
    """
    with connect() as client:
        found = zip(client.datasets.commits(dataset), range(limit), strict=False)
        rows = [plain(commit) for commit, _ in found]
    show(rows, _COMMITS, output, name="number", empty=f"{dataset} has no commits yet")


def diff(
    version: str,
    other: str = "",
    /,
    *,
    statistics: Annotated[bool, Parameter(negative="--no-statistics")] = True,
    output: Output = "table",
) -> None:
    """Show what changed from one version of a dataset to another: rows, columns, and what they hold.

    Examples:
        holdtrue datasets diff payments@2
        holdtrue datasets diff payments@1 payments@latest --no-statistics -o json

    Args:
        version: The version before; without OTHER the one after, compared with the one that it came of.
        other: The version after.
        statistics: Compare the values too, which reads every row of both versions.
    """
    first, second = Selector.parse(version), Selector.parse(other or version)
    if first.name != second.name:
        raise UsageError(f"expected two versions of one dataset, got {version} and {other}")
    before = first.dataset_version() if other else 0
    with connect() as client:
        if other and not before:
            before = client.datasets.get(first.name).latest_version
        found = client.datasets.diff(first.name, before, second.dataset_version(), statistics=statistics)
    if output == "table":
        details(_compared(found), _DIFF, "table")
        if found.columns:
            show([plain(column) for column in found.columns], _CHANGES, "table")
    else:
        details(_compared(found) | {"columns": [plain(column) for column in found.columns]}, _DIFF, output)


def retract(
    dataset: str,
    /,
    *,
    reason: str,
    commit: Annotated[str, Parameter(name="--commits")] = "",
    batch: Annotated[list[str] | None, Parameter(negative=())] = None,
    yes: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    output: Output = "table",
) -> int:
    """Take bad commits out of a dataset, from its next version on, which this makes.

    Versions that hold them are flagged, stay readable, and train nothing any more. It says what would happen and asks
    first.

    Examples:
        holdtrue datasets retract payments --commits 3,5-7 --reason "sensor was broken" --dry-run
        holdtrue datasets retract payments --batch 018f3b6e-7c00-7abc-8def-0123456789ab --reason "wrong file" --yes

    Args:
        dataset: Name of the dataset.
        reason: Why, for the record.
        commit: Commits, as numbers and ranges: see holdtrue datasets commits.
        batch: Id of a batch whose commit is retracted; may be given several times.
        yes: Do not ask.
        dry_run: Only say what would happen.
    """
    spans = _spans(commit) if commit else []
    if not spans and not batch:
        raise UsageError(f"name what to retract by --commits or --batch: see holdtrue datasets commits {dataset}")
    with connect() as client:
        plan = client.datasets.retract(dataset, spans, batches=batch or (), reason=reason, dry_run=True)
        if dry_run:
            details(_retracted(plan), _RETRACTED, output)
            return Exit.OK
        if not confirm(_question(plan), yes=yes):
            sys.stderr.write("nothing was changed\n")
            return Exit.FAILED
        exactly = [(span.first, span.last) for span in plan.commits]
        done = client.datasets.retract(dataset, exactly, reason=reason, expected=plan.version.parent)
        details(_retracted(done), _RETRACTED, output)
    return Exit.OK


def rollback(
    version: str,
    /,
    *,
    reason: str,
    reinstate: Annotated[bool, Parameter(negative=())] = False,
    yes: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    output: Output = "table",
) -> int:
    """Make a new version of a dataset with the rows of an older one; what came since is left out for good.

    It says what would happen and asks first.

    Examples:
        holdtrue datasets rollback payments@1 --reason "February was counted twice" --dry-run
        holdtrue datasets rollback payments@1 --reason "as agreed" --yes

    Args:
        version: The older version, NAME@VERSION.
        reason: Why, for the record.
        reinstate: Bring commits back that were retracted since.
        yes: Do not ask.
        dry_run: Only say what would happen.
    """
    chosen = Selector.parse(version)
    if not chosen.dataset_version():
        raise UsageError(f"expected the number of the older version, as in {chosen.name}@1, got {version}")
    with connect() as client:
        go = client.datasets.roll_back
        plan = go(chosen.name, chosen.dataset_version(), reason=reason, reinstate=reinstate, dry_run=True)
        if dry_run:
            details(_rolled(plan), _ROLLED, output)
            return Exit.OK
        question = f"{_name(plan)} would leave out {plan.rows_removed:,} rows of commits {_shown(plan.removed)}."
        if not confirm(question, yes=yes):
            sys.stderr.write("nothing was changed\n")
            return Exit.FAILED
        seen = plan.version.parent
        done = go(chosen.name, chosen.dataset_version(), reason=reason, reinstate=reinstate, expected=seen)
        details(_rolled(done), _ROLLED, output)
    return Exit.OK


def _spans(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for part in text.split(","):
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"--commits: expected numbers and ranges such as 3,5-7, got {text!r}")
        spans.append((int(match[1]), int(match[2] or match[1])))
    return spans


def _question(plan: RetractCommitsResponse) -> str:
    flagged = ", ".join(f"{plan.version.name}@{number}" for number in plan.flagged) or "none"
    learned = f" Trained on them: {', '.join(plan.models)}." if plan.models else ""
    return (
        f"{_name(plan)} would leave out {plan.rows:,} rows of commits {_shown(plan.commits)} "
        f"({len(plan.batch_ids)} batches). Versions that hold some: {flagged}.{learned}"
    )


def _name(done: RetractCommitsResponse | RollBackVersionResponse) -> str:
    return f"{done.version.name}@{done.version.version}"


def _shown(spans: Iterable[CommitRange]) -> str:
    return ", ".join(f"{s.first}" if s.first == s.last else f"{s.first}-{s.last}" for s in spans)


def _retracted(done: RetractCommitsResponse) -> dict[str, Any]:
    return {
        "name": _name(done),
        "rows": done.version.rows,
        "without": _shown(done.commits),
        "rows_retracted": done.rows,
        "batches": list(done.batch_ids),
        "flagged": [f"{done.version.name}@{number}" for number in done.flagged],
        "models": list(done.models),
        "reason": done.version.reason,
        "version": plain(done.version),
    }


def _rolled(done: RollBackVersionResponse) -> dict[str, Any]:
    return {
        "name": _name(done),
        "rows": done.version.rows,
        "restores": f"{done.version.name}@{done.version.restores}",
        "commits_added": _shown(done.added),
        "commits_removed": _shown(done.removed),
        "rows_removed": done.rows_removed,
        "reason": done.version.reason,
        "version": plain(done.version),
    }


def _compared(found: CompareVersionsResponse) -> dict[str, Any]:
    return {
        "name": f"{found.after.name}@{found.after.version}",
        "before": f"{found.before.name}@{found.before.version}",
        "rows": f"{found.before.rows} → {found.after.rows}",
        "rows_added": found.rows_added,
        "rows_removed": found.rows_removed,
        "commits_added": _shown(found.added),
        "commits_removed": _shown(found.removed),
        "schema_changes": list(found.schema_changes),
    }
