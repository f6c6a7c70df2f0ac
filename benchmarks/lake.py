"""What the lake's parts cost, beside the bare library that does the heavy part: both sides in one run.

    python benchmarks/lake.py join|profile [--repeats 5]

Seconds are processor time of all threads, because the machine may be shared; the two sides take turns, and the best
of each counts. Ratios carry over to other machines, seconds do not.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from holdtrue_lake.layout import Layout
from holdtrue_lake.point_in_time import join_as_of
from holdtrue_lake.profile import observe

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR, FOREVER = 3_600_000_000, 10**15
LABELS, FEATURES, SUBJECTS = 200_000, 1_000_000, 50_000
TIME = pa.timestamp("us", "UTC")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(COMMANDS), help="which figure")
    parser.add_argument("--repeats", type=int, default=5, help="of which the best counts")
    arguments = parser.parse_args()
    print("| what | measured | goal |\n|---|---|---|", flush=True)
    COMMANDS[arguments.what](arguments.repeats)


def _join(repeats: int) -> None:
    """Join with the ingest-time condition; pyarrow's bare join needs both sides sorted and looks into the future."""
    labels, features = _events()
    bare_labels, bare_features = (table.cast(_bare(table.schema)) for table in (labels, features))

    def leaking() -> pa.Table:
        return bare_labels.join_asof(bare_features, on="_event_time", by="subject", tolerance=-FOREVER)

    found = join_as_of(labels, features, by="subject", on="_event_time", known_at=None).column("f0")
    assert found.null_count == leaking().column("f0").null_count, "the two sides do not join the same"
    ours, bare = _best_of_each(
        lambda: join_as_of(labels, features, by="subject", on="_event_time"),
        leaking,
        repeats,
    )
    print(f"| join of {LABELS:,} labels and {FEATURES:,} features as known, ours | {ours:.2f} s | |")
    print(f"| bare `join_asof` of the same, in which late rows leak | {bare:.2f} s | |")
    _at_most("ours / bare", ours / bare, 1.5)


def _events() -> tuple[pa.Table, pa.Table]:
    """Rows in order of their event times, as `join_asof` wants them; a tenth of the features arrives hours later."""
    g = np.random.default_rng(1)
    at, event = (np.sort(g.integers(0, 90 * 24 * HOUR, rows)) for rows in (LABELS, FEATURES))
    late = np.where(g.random(FEATURES) < 0.1, g.exponential(6 * HOUR, FEATURES), g.exponential(1_000_000, FEATURES))
    names = np.array([f"subject {number:08}" for number in range(SUBJECTS)])
    labels = {"subject": names[g.integers(0, SUBJECTS, LABELS)], "_event_time": pa.array(at, TIME)}
    features = {
        "subject": names[g.integers(0, SUBJECTS, FEATURES)],
        "_event_time": pa.array(event, TIME),
        "_ingest_time": pa.array(event + late.astype(np.int64), TIME),
        "_off": np.arange(FEATURES) // 1000,
        "_row": (np.arange(FEATURES) % 1000).astype(np.int32),
        **{f"f{j}": g.normal(size=FEATURES).astype(np.float32) for j in range(5)},
    }
    return pa.table(labels), pa.table(features)


def _bare(schema: pa.Schema) -> pa.Schema:
    """Give times as whole numbers: the library's join takes a tolerance in no other way."""
    return pa.schema(
        [(field.name, pa.int64() if pa.types.is_timestamp(field.type) else field.type) for field in schema]
    )


def _profile(repeats: int) -> None:
    """Count everything of 30 mixed columns, by class of the label, beside one pass for the ends of each column."""
    rows = _rows()
    layout = Layout.of(rows, label="label")

    def ends() -> None:
        for column in rows.columns:
            pc.min_max(column)

    ours, bare = _best_of_each(lambda: observe(rows, layout), ends, repeats)
    print(f"| profile of {rows.num_rows:,} × {rows.num_columns}, two classes | {ours:.2f} s | |")
    print(f"| `min_max` of the same | {bare:.2f} s | |")
    _at_most("ours / min_max", ours / bare, 5)


def _rows() -> pa.Table:
    """Make 24 measurements (a quarter of them with 2 % missing), 2 whole numbers, 3 categories and a label."""
    g, n = np.random.default_rng(1), 1_000_000
    lost = g.random(n) < 0.02
    columns = {f"x{j}": pa.array(g.normal(size=n).astype(np.float32), mask=None if j % 4 else lost) for j in range(24)}
    columns |= {f"i{j}": pa.array(g.integers(0, 10 ** (3 + 3 * j), n)) for j in range(2)}
    for j, many in enumerate((3, 20, 500)):
        names = np.array([f"category {number}" for number in range(many)])
        columns[f"c{j}"] = pa.array(names[g.integers(0, many, n)])
    return pa.table(columns | {"label": g.random(n) < 0.1})


def _best_of_each(ours: Callable[[], object], bare: Callable[[], object], repeats: int) -> tuple[float, float]:
    sides = (ours, bare)
    for call in sides:
        call()  # compiles, and fills caches
    seconds = [[_seconds(call) for call in sides] for _ in range(repeats)]
    return min(both[0] for both in seconds), min(both[1] for both in seconds)


def _seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def _at_most(what: str, value: float, goal: float) -> None:
    print(f"| {what} | {value:.2f} × | ≤ {goal:g} × {'✓' if value <= goal else '✗'} |", flush=True)


COMMANDS: dict[str, Callable[[int], None]] = {"join": _join, "profile": _profile}

if __name__ == "__main__":
    main()
