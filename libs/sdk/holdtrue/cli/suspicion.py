"""`holdtrue datasets clear`, and how what is not as expected is shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from holdtrue.cli.arguments import Selector, confirm
from holdtrue.cli.exits import Exit, UsageError
from holdtrue.cli.messages import plain
from holdtrue.cli.output import Output, details
from holdtrue.cli.output import show as show_rows
from holdtrue.client import connect

if TYPE_CHECKING:
    from holdtrue_contracts.registry.v1.dataset_history_pb2 import ClearSuspicionResponse
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished

_CLEARED = ["name", "status", "rows", "commits", "cleared_versions", "cleared"]
_BROKEN = ["rule", "column", "expected", "got", "count"]


def clear(
    version: str,
    /,
    *,
    reason: str,
    yes: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    output: Output = "table",
) -> int:
    """Let a suspect version of a dataset be used, and all others that hold the same rows.

    A version is suspect if its new rows do not meet the expectations in force: nothing is trained on it. It says what
    that is and asks first. Where the rows are wrong, retract them instead.

    Examples:
        holdtrue datasets clear payments@2 --reason "the campaign was planned" --dry-run
        holdtrue datasets clear payments@2 --reason "the campaign was planned" --yes

    Args:
        version: The suspect version, NAME@VERSION or NAME@latest.
        reason: Why its rows may be used, for the record.
        yes: Do not ask.
        dry_run: Only say what would happen.
    """
    chosen = Selector.parse(version)
    if chosen.version is None:
        raise UsageError(f"expected a version, as in {chosen.name}@2 or {chosen.name}@latest, got {version}")
    with connect() as client:
        number = chosen.dataset_version() or client.datasets.get(chosen.name).latest_version
        plan = client.datasets.clear(chosen.name, number, reason=reason, dry_run=True)
        if dry_run:
            _print(plan, output)
            return Exit.OK
        if not yes:
            show_rows([plain(each) for each in plan.broken], _BROKEN, "table")
        if not confirm(f"{', '.join(_names(plan))} would be used in spite of this.", yes=yes):
            sys.stderr.write("nothing was changed\n")
            return Exit.FAILED
        _print(client.datasets.clear(chosen.name, number, reason=reason), output)
    return Exit.OK


def show_broken(version: DatasetVersionPublished) -> None:
    """Tell people what the rows of a version do not meet, and what to do."""
    if version.broken:
        sys.stdout.write("\n")
        show_rows([plain(each) for each in version.broken], _BROKEN, "table")
    if version.broken and not version.cleared:
        name = f"{version.name}@{version.version}"
        sys.stderr.write(
            f"→ if the rows are wrong: holdtrue datasets retract {version.name} …; "
            f"if they are right: holdtrue datasets clear {name} --reason …\n"
        )


def _names(done: ClearSuspicionResponse) -> list[str]:
    return [f"{done.version.name}@{number}" for number in done.cleared]


def _print(done: ClearSuspicionResponse, output: Output) -> None:
    commits = ", ".join(f"{s.first}" if s.first == s.last else f"{s.first}-{s.last}" for s in done.commits)
    broken: list[Any] = [plain(each) for each in done.broken]
    row = plain(done.version) | {"name": f"{done.version.name}@{done.version.version}", "broken": broken}
    details(row | {"commits": commits, "cleared_versions": _names(done)}, _CLEARED, output)
    if output == "table":
        show_rows(broken, _BROKEN, "table")
