"""`holdtrue events tail`."""

from __future__ import annotations

import asyncio
import difflib
import sys
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from holdtrue.cli.arguments import seconds
from holdtrue.cli.exits import UsageError
from holdtrue.cli.output import StreamFormat, StreamOutput, show_one

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord


def tail(
    *,
    type_: Annotated[str, Parameter(name="--type")] = "*",
    since: Annotated[str, Parameter(name="--from")] = "",
    follow: bool = True,
    output: StreamOutput = "table",
) -> None:
    """Show events as they come, until Ctrl-C.

    Examples:
        holdtrue events tail
        holdtrue events tail --type 'holdtrue.monitor.*' --from 2h
        holdtrue events tail --from 1h --no-follow -o ndjson

    Args:
        type_: Only types that match this pattern.
        since: Begin so long ago, for example 2h; otherwise now.
        follow: Go on when all that there is was shown.
    """
    since_ms = int((time.time() - seconds(since)) * 1000) if since else None
    asyncio.run(_tail(type_, since_ms, output, follow=follow))


async def _tail(pattern: str, since_ms: int | None, output: StreamFormat, *, follow: bool) -> None:
    from holdtrue_contracts.catalogue import EVENTS  # noqa: PLC0415  Kafka and all messages only when it runs

    from holdtrue import endpoints, topics  # noqa: PLC0415

    names = sorted({event.topic for event in EVENTS.values() if fnmatchcase(event.name, pattern)})
    if not names:
        raise _unknown_type(pattern, [event.name for event in EVENTS.values()])
    async for record in topics.read(endpoints.find(), names, since_ms=since_ms, follow=follow):
        row = _row(record)
        if not fnmatchcase(row["type"], pattern):
            continue
        if output == "table":
            line = f"{row['time']}  {row['topic']}/{row['partition']}@{row['offset']}  {row['type']}  {row['key']}"
            sys.stdout.write(f"{line}  {row['size']} B\n")
            sys.stdout.flush()
        else:
            show_one(row, output, name="id")


def _unknown_type(pattern: str, known: list[str]) -> UsageError:
    close = difflib.get_close_matches(pattern, known, n=1, cutoff=0.4)
    meant = f"did you mean {close[0]}?" if close else f"types look like {min(known)}"
    return UsageError(f"--type {pattern}: no type of event matches; {meant}")


def _row(record: ConsumerRecord[bytes, bytes]) -> dict[str, Any]:
    """Return a record for people; one that is no event of ours is shown with what is wrong instead of its data."""
    from holdtrue_contracts.codec import MalformedEvent, UnknownEventType, decode  # noqa: PLC0415

    from holdtrue.cli.messages import moment, plain  # noqa: PLC0415

    headers = {name: (raw or b"").decode(errors="replace") for name, raw in record.headers}
    row: dict[str, Any] = {
        "id": headers.get("ce_id", ""),
        "type": headers.get("ce_type", ""),
        "time": headers.get("ce_time") or moment(record.timestamp * 1_000_000),
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": (record.key or b"").decode(errors="replace"),
        "actor": headers.get("ce_actor", ""),
        "size": len(record.value or b""),
    }
    try:
        row["data"] = plain(decode(record.key, record.value, record.headers).data)
    except (MalformedEvent, UnknownEventType) as error:
        row["error"] = "tombstone" if record.value is None else str(error)
    return row
