"""What reading a dataset version costs, beside reading the same Delta table with the library alone: both in one run.

    python benchmarks/versions.py [--rows 2000000] [--features 10] [--commits 200] [--repeats 5]

A table is filled commit by commit by the ingestion engine and compacted inside the boundaries of three versions. Each
round reads it natively and as versions, in turns; the best of each counts. Every read of a version is in canonical
order, and its rows are checked against what was written.
"""

from __future__ import annotations

import argparse
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema
from holdtrue_lake.compaction import compact
from holdtrue_lake.order import IDENTITY
from holdtrue_lake.ranges import Ranges
from holdtrue_lake.storage import rows_uri
from holdtrue_lake.table import DatasetTable, Offer, Source
from holdtrue_lake.validation import Validated
from holdtrue_lake.versions import read_version

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL = 1.3


def main() -> None:
    arguments = _arguments()
    dataset_id = str(uuid.uuid4())
    half, bad, last = arguments.commits // 2, arguments.commits // 4, arguments.commits - 1
    versions = {
        "first half": Ranges.of([(0, half - 1)]),
        "all but one retracted commit": Ranges.of([(0, bad - 1), (bad + 1, last)]),
        "all": Ranges.of([(0, last)]),
    }
    with TemporaryDirectory(prefix="holdtrue-bench-") as folder:
        root = Path(folder)
        _fill(root, dataset_id, arguments)

        def native() -> pa.Table:
            return DeltaTable(rows_uri(root, dataset_id).uri).to_pyarrow_table()

        def version(ranges: Ranges) -> Callable[[], pa.Table]:
            return lambda: read_version(root, dataset_id, ranges)

        print(f"{arguments.rows} rows, {arguments.features} features, {arguments.commits} commits")
        print("| what | ms | ratio to native | goal |\n|---|---|---|---|")
        _compare("not compacted", native, {"all": version(versions["all"])}, arguments.repeats, None)
        started = time.perf_counter()
        done = compact(root, dataset_id, versions.values())
        text = f"compaction of {done.removed} files into {done.added}"
        print(f"| {text} | {(time.perf_counter() - started) * 1e3:.0f} | | |")
        readers = {name: version(ranges) for name, ranges in versions.items()}
        _compare("compacted", native, readers, arguments.repeats, GOAL)
        _check(read_version(root, dataset_id, versions["all"]), arguments.rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the whole table")
    parser.add_argument("--features", type=int, default=10, help="float32 columns beside the label")
    parser.add_argument("--commits", type=int, default=200, help="commits that bring them, at least 4")
    parser.add_argument("--repeats", type=int, default=5, help="of which the best counts")
    return parser.parse_args()


def _fill(root: Path, dataset_id: str, arguments: argparse.Namespace) -> None:
    names = [f"f{index}" for index in range(arguments.features)]
    schema = DatasetSchema(
        columns=[*(ColumnSpec(name=name, dtype="float32") for name in names), ColumnSpec(name="y", dtype="int64")],
        label="y",
    )
    table, source, now = DatasetTable(root, dataset_id, schema), Source("bench", "bench", 0), datetime.now(UTC)
    random = np.random.default_rng(1)
    size: int = arguments.rows // arguments.commits
    for number in range(arguments.commits):
        values: dict[str, Any] = {name: random.normal(0, 1, size).astype(np.float32) for name in names}
        rows = pa.table(
            values
            | {
                "y": random.integers(0, 2, size),
                "_row": np.arange(size, dtype=np.int32),
                "_event_time": pa.repeat(pa.scalar(now, pa.timestamp("us", "UTC")), size),
            }
        )
        table.ingest(source, [Offer(number, f"batch {number}", Validated(rows, ()))], now)


def _compare(
    state: str,
    native: Callable[[], pa.Table],
    readers: dict[str, Callable[[], pa.Table]],
    repeats: int,
    goal: float | None,
) -> None:
    best: dict[str, float] = {}
    for _ in range(repeats):
        for name, read in {"native": native, **readers}.items():
            started = time.perf_counter()
            read()
            best[name] = min(best.get(name, float("inf")), time.perf_counter() - started)
    for name, seconds in best.items():
        limit = f"≤ {goal}" if goal and name != "native" else ""
        print(f"| {state}: {name} | {seconds * 1e3:.0f} | {seconds / best['native']:.2f} | {limit} |", flush=True)


def _check(rows: pa.Table, expected: int) -> None:
    keys = np.stack([rows.column(name).to_numpy() for name in IDENTITY], axis=1)
    if rows.num_rows != expected or not np.array_equal(keys, keys[np.lexsort(keys.T[::-1])]):
        raise SystemExit("the version is not what was written")


if __name__ == "__main__":
    main()
