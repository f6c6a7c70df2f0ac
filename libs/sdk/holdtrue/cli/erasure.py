"""`holdtrue datasets erase-subject | erasures`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from holdtrue.cli.arguments import confirm, seconds
from holdtrue.cli.exits import Exit, UsageError
from holdtrue.cli.messages import plain
from holdtrue.cli.output import Output, details, show, suggest
from holdtrue.cli.progress import progress
from holdtrue.client import connect

if TYPE_CHECKING:
    from holdtrue_contracts.registry.v1.erasure_pb2 import ErasedDataset, Erasure

    from holdtrue.client import Client

_LIST = ["erasure_id", "state", "asked_at", "asked_by", "progress", "deadline", "reason"]
_ERASURE = [
    "erasure_id", "state", "overdue", "pseudonym", "progress", "reason", "asked_by", "asked_at", "deadline", "done_at",
    "leaves_later",
]  # fmt: skip
_HELD = ["name", "protected", "rows", "quarantined", "commits", "versions", "models"]
_PROOF = [*_HELD, "files", "bytes", "found", "trouble"]


def erase_subject(
    identifier: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    reason: str,
    now: Annotated[bool, Parameter(negative=())] = False,
    timeout: str = "1h",
    yes: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    output: Output = "table",
) -> int:
    """Erase a person from all datasets: from every version, and from the refused records.

    It says what the datasets hold and asks first. All persons who wait are erased together, every hour by default.
    Asking again for a person whose erasure is not done follows the same erasure; nothing is done twice. It is done when
    every byte of the datasets' tables was looked through and nothing was found.

    Examples:
        holdtrue datasets erase-subject ada@example.org --reason "request 2026-114" --dry-run
        holdtrue datasets erase-subject - --reason "request 2026-114" --now --yes < person.txt

    Args:
        identifier: The person, as the datasets' subject columns have it; - reads a line from standard input, so that it
            is in no list of processes and no history of commands.
        reason: Why, for the record, which outlives the person: do not name anybody.
        now: Begin at once, and wait for the proof; may be interrupted and repeated.
        timeout: How long --now waits, for example 10m; the erasure goes on.
        yes: Do not ask.
        dry_run: Only count what the datasets hold.
    """
    limit, person = seconds(timeout), _person(identifier, yes=yes or dry_run)
    with connect() as client:
        plan = client.datasets.erase_subject(person, reason=reason, dry_run=True)
        if dry_run:
            _print(plan, output)
            return Exit.OK
        if not confirm(_question(plan), yes=yes):
            sys.stderr.write("nothing was changed\n")
            return Exit.FAILED
        asked = client.datasets.erase_subject(person, reason=reason, now=now)
        _print(_followed(client, asked, limit) if now else asked, output)
    if not now:
        suggest(f"holdtrue datasets erasures {asked.erasure_id}", output)
    return Exit.OK


def erasures(
    erasure: str = "",
    /,
    *,
    unfinished: Annotated[bool, Parameter(name="--open", negative=())] = False,
    wait: Annotated[bool, Parameter(negative=())] = False,
    timeout: str = "1h",
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 100,
    output: Output = "table",
) -> None:
    """Show the erasures of persons, newest first, or one of them with its proof.

    Examples:
        holdtrue datasets erasures --open
        holdtrue datasets erasures 019a2b3c --wait
        holdtrue datasets erasures 019a2b3c -o json

    Args:
        erasure: Id of an erasure, or a beginning of it.
        unfinished: Only those that are not done.
        wait: Wait until it is done.
        timeout: How long to wait, for example 10m; the erasure goes on.
        limit: At most so many.
    """
    patience = seconds(timeout)
    if wait and not erasure:
        raise UsageError("--wait: name the erasure that is to be waited for")
    with connect() as client:
        if erasure:
            found = client.datasets.erasure(erasure)
            _print(_followed(client, found, patience) if wait else found, output)
            return
        rows = [
            _row(each) for each, _ in zip(client.datasets.erasures(unfinished=unfinished), range(limit), strict=False)
        ]
    show(rows, _LIST, output, name="erasure_id", empty="nobody was to be erased")


def _person(identifier: str, *, yes: bool) -> str:
    if identifier != "-":
        return identifier
    if not yes:
        raise UsageError("-: the person is read from standard input, so nobody can be asked: repeat with --yes")
    return sys.stdin.readline().rstrip("\r\n")


def _followed(client: Client, erasure: Erasure, limit: float) -> Erasure:
    with progress(f"erasure {erasure.erasure_id[:13]}") as say:
        return client.datasets.wait_erased(erasure.erasure_id, timeout=limit, progress=say)


def _question(plan: Erasure) -> str:
    holding = [each for each in plan.datasets if each.rows or each.quarantined]
    rows, refused = sum(each.rows for each in holding), sum(each.quarantined for each in holding)
    versions = [f"{each.name}@{number}" for each in holding for number in each.versions]
    models = sorted({model for each in holding for model in each.models})
    learned = f" Trained on them: {', '.join(models)}." if models else ""
    named = f"{', '.join(versions[:20])}{' …' if len(versions) > 20 else ''}" or "none"  # noqa: PLR2004
    return (
        f"{rows:,} rows and {refused:,} refused records of {len(holding)} datasets would be erased for good. "
        f"Versions that hold some: {named}.{learned}{_unprotected(plan)}"
    )


def _unprotected(plan: Erasure) -> str:
    names = [each.name for each in plan.datasets if not each.protected]
    text = f" Not protected, so only looked through: {', '.join(names[:20])}{' …' if len(names) > 20 else ''}."  # noqa: PLR2004
    return text if names else ""


def _print(erasure: Erasure, output: Output) -> None:
    if output != "table":
        details(_row(erasure), _ERASURE, output, name="erasure_id")
        return
    if erasure.erasure_id:
        details(_row(erasure), _ERASURE, "table")
    holding = [each for each in erasure.datasets if _telling(each)]
    columns = _PROOF if any(each.HasField("checked_at") for each in holding) else _HELD
    show([_dataset(each) for each in holding], columns, "table", empty="no dataset holds anything about this person")
    if not erasure.erasure_id and (text := _unprotected(erasure)):
        sys.stderr.write(f"{text.strip()}\n")


def _telling(dataset: ErasedDataset) -> bool:
    return bool(
        dataset.rows or dataset.quarantined or dataset.found or dataset.trouble or dataset.HasField("checked_at")
    )


def _row(erasure: Erasure) -> dict[str, Any]:
    row = plain(erasure)
    leaves = {each.topic: plain(each)["gone_at"] for each in erasure.remainders}
    done = f"{erasure.datasets_done} of {erasure.datasets_total} datasets" if erasure.datasets_total else ""
    return row | {"datasets": [*map(_dataset, erasure.datasets)], "progress": done, "leaves_later": leaves}


def _dataset(dataset: ErasedDataset) -> dict[str, Any]:
    commits = ", ".join(f"{s.first}" if s.first == s.last else f"{s.first}-{s.last}" for s in dataset.commits)
    return plain(dataset) | {"commits": commits, "found": [plain(trace) for trace in dataset.found]}
