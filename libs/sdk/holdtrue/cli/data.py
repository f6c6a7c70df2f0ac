"""`holdtrue data infer | rejects`."""

from __future__ import annotations

import base64
import sys
from functools import partial
from pathlib import Path  # noqa: TC003  cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from holdtrue.cli.messages import plain
from holdtrue.cli.output import StreamFormat, StreamOutput, details, show, show_one, suggest
from holdtrue.client import connect

if TYPE_CHECKING:
    from holdtrue_contracts.registry.v1.quarantine_pb2 import RejectedRecord

_MOST_PAGE = 500
_REJECTS = ["refused_at", "batch_id", "row", "code", "column", "expected", "got"]


def infer(
    file: Path,
    /,
    *,
    label: str = "",
    time: str = "",
    text: Annotated[list[str] | None, Parameter(negative=())] = None,
    output: Annotated[Literal["yaml", "json"], Parameter(name=["--output", "-o"])] = "yaml",
) -> None:
    """Propose schema and rules from a sample, as a rules file to be reviewed.

    What refuses records is proposed only where the sample leaves little doubt. Nothing is changed by this.

    Examples:
        holdtrue data infer payments.csv --label fraud --time booked_at > rules.yaml
        holdtrue data infer payments.parquet --label fraud -o json

    Args:
        file: CSV file with a header, JSON lines (.jsonl, .ndjson, .json) or Parquet (.parquet).
        label: Column that models learn to predict.
        time: Column with the time of the event, Unix seconds or ISO 8601.
        text: Column of a CSV file to take as text though its values look like numbers; may be given several times.
        output: yaml, the rules file; or json with the schema as well.
    """
    with connect() as client:
        proposed = client.datasets.infer(file, label=label, time=time, text=text or ())
    if output == "json":
        details(plain(proposed), [], "json")
        return
    sys.stdout.write(proposed.rules)
    sys.stderr.write(f"proposed from {proposed.rows:,} rows; review it before you use it\n")
    suggest(f"holdtrue datasets add NAME {file} --rules RULES.yaml", "table")


def rejects(
    dataset: str,
    /,
    *,
    batch: str = "",
    code: str = "",
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 100,
    raw: Annotated[bool, Parameter(name="--bytes", negative=())] = False,
    output: StreamOutput = "table",
) -> None:
    """Show the records that were refused, newest first, with everything that is wrong with each.

    Nothing that was offered is dropped: a refused record is kept with its original bytes.

    Examples:
        holdtrue data rejects payments
        holdtrue data rejects payments --code WRONG_TYPE --limit 20
        holdtrue data rejects payments --bytes -o ndjson

    Args:
        dataset: Name of the dataset.
        batch: Only records of the batch with this id.
        code: Only records whose first fault is of this kind, for example MISSING.
        limit: At most so many records.
        raw: Print the original bytes, too: as text where they are text, and always as base64 in JSON.
        output: How to print: table (a line for each fault), json, ndjson, or name (id of the batch and row).
    """
    with connect() as client:
        ask = partial(client.datasets.rejects_page, dataset, batch, code, with_bytes=raw)
        first = page = ask(size=min(limit, _MOST_PAGE))
        found = list(page.records)
        while page.next_page_token and len(found) < limit:
            page = ask(size=min(limit - len(found), _MOST_PAGE), token=page.next_page_token)
            found += page.records
    rows = [_row(record, raw=raw) for record in found]
    _print(rows, output, raw=raw)
    if output == "table" and first.total:
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(first.codes.items()))
        shown = f", {len(rows):,} shown" if len(rows) < first.total else ""
        sys.stderr.write(f"{first.total:,} records refused{shown}: {told}\n")


def _print(rows: list[dict[str, Any]], output: StreamFormat, *, raw: bool) -> None:
    if output == "json":
        show(rows, [], "json")
    elif output == "table":
        lines = [row | fault | {"bytes": row.get("raw")} for row in rows for fault in row["faults"]]
        show(lines, [*_REJECTS, *(["bytes"] if raw else [])], "table", empty="no record was refused")
    else:
        for row in rows:
            show_one(row, output)


def _row(record: RejectedRecord, *, raw: bool) -> dict[str, Any]:
    row = plain(record) | {"name": f"{record.batch_id}/{record.row}"}
    del row["raw"]
    return row | ({"raw": _text(record.raw), "raw_base64": base64.b64encode(record.raw).decode()} if raw else {})


def _text(data: bytes) -> str | None:
    """Return bytes as text; None where they are none."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if "\x00" not in text else None
