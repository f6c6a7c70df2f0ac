"""Refused records as batches that can be offered again, byte by byte as they came."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import pyarrow as pa
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_ARROW, RECORD_FORMAT_JSON_LINES, RecordsOffered

from holdtrue_lake.faults import WHOLE_PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdtrue_lake.rejects import Place

MOST_BYTES = 900_000
"""Bytes of one batch."""
MOST_ROWS = 10_000
_ARROW = b"\xff\xff\xff\xff"
_DIGEST = re.compile(rb"[0-9a-f]{64}")
ERASED, TOO_LARGE, IN_A_BLOB = "erased", "too large", "in a blob"
"""Why a record cannot be offered: the key of its person is destroyed, it is more than a batch may have, or it is a
whole batch that came in a blob, whose encoding nobody remembers."""


@dataclass(frozen=True)
class Original:
    """A refused record with its bytes as they came; empty where nobody can read them any more."""

    place: Place
    raw: bytes

    @property
    def kind(self) -> tuple[str, bytes]:
        """What records of one batch have in common: the encoding, and of Arrow the columns."""
        if self.place[3] == WHOLE_PAYLOAD:
            return f"whole {self.place}", b""
        columns = _columns(self.raw) if self.raw.startswith(_ARROW) else b""
        return ("arrow", columns) if columns else ("json", b"")


@dataclass(frozen=True)
class Reoffer:
    """Batches with the places of their records, in order, and how many cannot be offered, by the reason."""

    batches: list[tuple[RecordsOffered, list[Place]]] = field(
        default_factory=list["tuple[RecordsOffered, list[Place]]"]
    )
    skipped: Counter[str] = field(default_factory=Counter[str])


def reoffer(dataset_id: str, records: Iterable[Original]) -> Reoffer:
    """Gather records into batches; the same records make the same batches, ids included."""
    result = Reoffer()
    kept: list[Original] = []
    for record in records:
        if reason := _unfit(record):
            result.skipped[reason] += 1
        else:
            kept.append(record)
    for (kind, _), group in groupby(sorted(kept, key=lambda each: (each.kind, each.place)), lambda each: each.kind):
        for part in _parts([*group]):
            result.batches.append((_offered(dataset_id, kind, part), [each.place for each in part]))
    return result


def _unfit(record: Original) -> str:
    if not record.raw:
        return ERASED
    if record.place[3] == WHOLE_PAYLOAD and _DIGEST.fullmatch(record.raw):
        return IN_A_BLOB
    return TOO_LARGE if len(record.raw) > MOST_BYTES else ""


def _parts(records: Sequence[Original]) -> Iterator[list[Original]]:
    part: list[Original] = []
    size = 0
    for record in records:
        if part and (size + len(record.raw) + 1 > MOST_BYTES or len(part) >= MOST_ROWS):
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record.raw) + 1
    if part:
        yield part


def _offered(dataset_id: str, kind: str, part: Sequence[Original]) -> RecordsOffered:
    first = part[0].raw
    arrow = kind == "arrow" or (kind != "json" and first.startswith(_ARROW))
    payload = _joined(part) if kind == "arrow" else b"\n".join(each.raw for each in part)
    places = ";".join("/".join(map(str, each.place)) for each in part)
    return RecordsOffered(
        dataset_id=dataset_id,
        batch_id=f"replay-{hashlib.sha256(f'{dataset_id} {places}'.encode()).hexdigest()[:32]}",
        format=RECORD_FORMAT_ARROW if arrow else RECORD_FORMAT_JSON_LINES,
        rows=len(part),
        inline=payload,
    )


def _columns(raw: bytes) -> bytes:
    """Columns of an Arrow record; nothing for what only looks like one."""
    try:
        with pa.ipc.open_stream(pa.py_buffer(raw)) as reader:
            return reader.schema.serialize().to_pybytes()
    except (pa.ArrowException, OSError):
        return b""


def _joined(part: Sequence[Original]) -> bytes:
    tables = [pa.ipc.open_stream(pa.py_buffer(each.raw)).read_all() for each in part]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, tables[0].schema) as writer:
        writer.write_table(pa.concat_tables(tables).combine_chunks())
    return sink.getvalue().to_pybytes()
