"""What writing to a dataset costs: ingestion beside a bare loop, and erasing many persons beside erasing one.

    python benchmarks/lake_writes.py ingest|erase [--repeats 3]

Ingestion decodes, validates, keeps refused records aside and commits, ten messages of 1,000 rows at a time; the bare
loop decodes and appends the same messages ten at a time with the same library. Seconds are processor time of all
threads; the sides take turns, and the best of each counts. Ratios carry over to other machines, seconds do not.
"""

from __future__ import annotations

import argparse
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_ARROW, DatasetSchema
from holdtrue_lake.erasure import erase_rows
from holdtrue_lake.proof import scan
from holdtrue_lake.rules import ColumnRules, Rules
from holdtrue_lake.table import DatasetTable, Offer, Source
from holdtrue_lake.upkeep import vacuum
from holdtrue_lake.validation import Validated, compile_for, validate

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SOURCE = Source("cluster", "topic", 0)
MESSAGES, TOGETHER, FEATURES = 200, 10, 20
COMMITS, ROWS, SUBJECTS, MANY = 100, 20_000, 50_000, 100
NAMES = [f"x{number}" for number in range(FEATURES)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(COMMANDS), help="which figure")
    parser.add_argument("--repeats", type=int, default=3, help="of which the best counts")
    arguments = parser.parse_args()
    print("| what | measured | goal |\n|---|---|---|", flush=True)
    with TemporaryDirectory(prefix="holdtrue-bench-") as folder:
        COMMANDS[arguments.what](Path(folder), arguments.repeats)


def _ingest(root: Path, repeats: int) -> None:
    schema = _schema()
    checker = compile_for(schema, Rules(version=1, columns={name: ColumnRules(min=-10, max=10) for name in NAMES}))
    messages = [_message(number) for number in range(MESSAGES)]

    def ours() -> None:
        table = DatasetTable(root, str(uuid.uuid4()), schema)
        for first in range(0, MESSAGES, TOGETHER):
            offers = [
                Offer(n, str(n), validate(schema, messages[n], RECORD_FORMAT_ARROW, NOW, checker=checker))
                for n in range(first, first + TOGETHER)
            ]
            commit = table.ingest(SOURCE, offers, NOW)
            assert commit is not None
            assert (commit.accepted, commit.quarantined) == (999 * TOGETHER, TOGETHER)

    def bare() -> None:
        place = root / str(uuid.uuid4())
        for first in range(0, MESSAGES, TOGETHER):
            write_deltalake(place, pa.concat_tables(map(_decoded, messages[first : first + TOGETHER])), mode="append")

    mine, its = _best_of_each([ours, bare], repeats)
    rows = MESSAGES * 1000
    print(f"| {rows:,} rows × {FEATURES + 1}, decoded, validated, committed | {rows / mine:,.0f} rows/s | |")
    print(f"| the same, only decoded and appended | {rows / its:,.0f} rows/s | |")
    print(f"| ours / bare | {its / mine:.2f} | ≥ 0.5 {'✓' if its / mine >= 0.5 else '✗'} |")


def _erase(root: Path, repeats: int) -> None:
    """Each repeat erases others; a table of one row per person and commit would flatter us, so persons have 40 each."""
    dataset_id = str(uuid.uuid4())
    _fill(root, dataset_id)
    persons = iter(range(SUBJECTS))

    def erase(count: int) -> Callable[[], None]:
        def run() -> None:
            gone = [_pseudonym(next(persons)) for _ in range(count)]
            found = erase_rows(root, dataset_id, gone, [str(uuid.uuid4())])
            vacuum(root, dataset_id, timedelta(), alone=True)
            assert found.rows == count * COMMITS * ROWS // SUBJECTS

        return run

    one, many = _best_of_each([erase(1), erase(MANY)], repeats)
    assert not scan(root, dataset_id, [_pseudonym(0)]).found
    print(f"| one person out of {COMMITS * ROWS:,} rows in {COMMITS} files, vacuum included | {one:.2f} s | |")
    print(f"| {MANY} persons together | {many:.2f} s | |")
    print(f"| {MANY} / one | {many / one:.2f} × | ≤ 2 × {'✓' if many / one <= 2 else '✗'} |")


def _schema() -> DatasetSchema:
    columns = [ColumnSpec(name=name, dtype="float32") for name in NAMES]
    return DatasetSchema(columns=[*columns, ColumnSpec(name="label", dtype="int64")], label="label")


def _columns(rows: int, seed: int) -> dict[str, Any]:
    g = np.random.default_rng(seed)
    return {name: g.normal(size=rows).astype(np.float32) for name in NAMES} | {"label": g.integers(0, 2, rows)}


def _message(number: int) -> bytes:
    """Give 1,000 rows, one of which breaks a rule."""
    columns = _columns(1000, number)
    columns["x0"][number] = 11
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _decoded(message: bytes) -> pa.Table:
    with pa.ipc.open_stream(message) as reader:
        return reader.read_all()


def _fill(root: Path, dataset_id: str) -> None:
    table = DatasetTable(root, dataset_id, _schema(), protected=True)
    for commit in range(COMMITS):
        times = pa.array([NOW] * ROWS, pa.timestamp("us", "UTC"))
        who = [_pseudonym((commit * ROWS + row) * 7919 % SUBJECTS) for row in range(ROWS)]
        lake = {"_row": pa.array(range(ROWS), pa.int32()), "_event_time": times, "_subject": who}
        rows = pa.table(_columns(ROWS, commit) | lake)
        table.ingest(SOURCE, [Offer(commit, str(commit), Validated(rows, ()))], NOW)


def _pseudonym(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15 % 2**256:064x}"


def _best_of_each(sides: list[Callable[[], object]], repeats: int) -> list[float]:
    rounds = [[_seconds(side) for side in sides] for _ in range(repeats)]
    return [min(turn[side] for turn in rounds) for side in range(len(sides))]


def _seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


COMMANDS: dict[str, Callable[[Path, int], None]] = {"ingest": _ingest, "erase": _erase}

if __name__ == "__main__":
    main()
