"""`holdtrue events dlq list | replay`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from holdtrue.cli.arguments import confirm
from holdtrue.cli.exits import Exit, UsageError
from holdtrue.cli.output import Output, show

if TYPE_CHECKING:
    from holdtrue_contracts.dead_letter import DeadLetter

_COLUMNS = ["id", "failed_at", "consumer", "topic", "type", "reason", "message"]


def list_(*, consumer: str = "", output: Output = "table") -> None:
    """List the events that nobody could handle, oldest first, with their reasons.

    A replayed one is listed until its consumer has handled it.

    Examples:
        holdtrue events dlq list
        holdtrue events dlq list --consumer trainer -o ndjson

    Args:
        consumer: Only those of consumers whose name begins so.
    """
    letters = [letter for letter in asyncio.run(_read()) if letter.consumer.startswith(consumer)]
    show([_row(letter) for letter in letters], _COLUMNS, output, name="id")


def replay(
    ids: Annotated[list[str] | None, Parameter(negative=())] = None,
    /,
    *,
    all_: Annotated[bool, Parameter(name="--all", negative=())] = False,
    yes: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Give dead letters another chance: the original bytes go to their topic again, for the consumer that refused them.

    Examples:
        holdtrue events dlq replay 01a21057-6d23-765d-867d-6d66a0a452c5
        holdtrue events dlq replay --all --yes

    Args:
        ids: Ids of the letters.
        all_: All that there are.
        yes: Do not ask.
        dry_run: Only say what would happen.
    """
    if bool(ids) == all_:
        raise UsageError("name the ids of dead letters, or --all; holdtrue events dlq list shows them")
    letters = asyncio.run(_read())
    chosen = letters if all_ else _named(letters, ids or [])
    for letter in chosen:
        sys.stderr.write(f"{letter.id}  {letter.topic} for {letter.consumer}: {letter.reason}\n")
    if dry_run or not chosen:
        return Exit.OK
    if not confirm(f"Publish {len(chosen)} events again?", yes=yes):
        return Exit.FAILED
    asyncio.run(_publish(chosen))
    sys.stderr.write(f"{len(chosen)} events published again\n")
    return Exit.OK


async def _read() -> list[DeadLetter]:
    from holdtrue_contracts.catalogue import DEAD_LETTERS  # noqa: PLC0415  Kafka only when it runs
    from holdtrue_contracts.dead_letter import DeadLetter, settles  # noqa: PLC0415

    from holdtrue import endpoints, topics  # noqa: PLC0415

    records = topics.read(endpoints.find(), [DEAD_LETTERS], since_ms=0, follow=False)
    letters: list[DeadLetter] = []
    done: set[str] = set()
    async for record in records:
        if settled := settles(record.headers):
            done.add(settled)
            continue
        try:
            letters.append(DeadLetter.from_record(record.key, record.value, record.headers))
        except ValueError as error:  # somebody else's record
            sys.stderr.write(f"! {record.topic}/{record.partition}@{record.offset} is skipped: {error}\n")
    return sorted((letter for letter in letters if letter.id not in done), key=lambda letter: letter.failed_at)


async def _publish(letters: list[DeadLetter]) -> None:
    from holdtrue import endpoints, topics  # noqa: PLC0415

    await topics.publish(endpoints.find(), [letter.replay() for letter in letters])


def _named(letters: list[DeadLetter], ids: list[str]) -> list[DeadLetter]:
    from holdtrue.errors import NotFound  # noqa: PLC0415

    by_id = {letter.id: letter for letter in letters}
    if missing := [id_ for id_ in ids if id_ not in by_id]:
        raise NotFound(f"no dead letters {', '.join(missing)}", hint="list them: holdtrue events dlq list")
    return [by_id[id_] for id_ in ids]


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "failed_at": letter.failed_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "consumer": letter.consumer,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "type": letter.event_type or "",
        "event_id": letter.event_id or "",
        "reason": letter.reason,
        "message": letter.message,
        "key": (letter.key or b"").decode(errors="replace"),
        "size": len(letter.value or b""),
    }
