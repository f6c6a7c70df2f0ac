"""Record rules beside pandera on polars and on pandas: the same table, the same rules, both sides in one run.

    python benchmarks/validation.py [--rows 1000000] [--repeats 5]

pandera runs as a program of its own environment, which is made from tests/foreign/pandera.lock if it is missing. Every
side has the table in memory and its schema made beforehand, except for ours: its time includes compiling the rules.
One value in 1,000 of one column breaks a rule, so that outcomes are made, too. Ratios are of one run on one machine.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pyarrow as pa
from holdtrue_lake.judge import judge
from holdtrue_lake.rules import ColumnRules, Rules
from holdtrue_local import foreign

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GOALS = {"polars": {1_000_000: "≥ 2"}, "pandas": {1_000_000: "≥ 10", 1_000: "≥ 10"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large table; the small one has 1,000")
    parser.add_argument("--repeats", type=int, default=5, help="of which the best counts, on every side")
    arguments = parser.parse_args()
    if foreign.missing("pandera"):
        foreign.install("pandera")
    print("| table | side | best | times ours | goal |\n|---|---|---|---|---|", flush=True)
    for rows in (arguments.rows, 1_000):
        _compare(rows, arguments.repeats)


def _compare(rows: int, repeats: int) -> None:
    table, rules = _table(rows), _rules()
    before = _ours(table, rules, repeats)
    theirs = _theirs(table, rules, repeats)
    ours = min(before, _ours(table, rules, repeats))
    print(f"| {rows:,} × {table.num_columns}, 30 rules | ours | {ours * 1e3:,.2f} ms | | |", flush=True)
    for name, seconds in theirs.items():
        goal = GOALS[name].get(rows, "")
        print(f"| | pandera on {name} | {seconds * 1e3:,.2f} ms | {seconds / ours:.1f} | {goal} |", flush=True)


def _table(rows: int) -> pa.Table:
    """20 columns of numbers, 5 of whole numbers, 5 of texts; a tenth of four columns is null."""
    g = np.random.default_rng(7)
    columns: dict[str, pa.Array] = {}
    for i in range(20):
        nulls = g.random(rows) < 0.1 if i < 4 else None
        columns[f"x{i}"] = pa.array(g.normal(0, 1, rows), mask=nulls)
    columns["x19"] = pa.array(np.where(np.arange(rows) % 1000 == 0, 99.0, g.normal(0, 1, rows)))
    for i in range(5):
        columns[f"n{i}"] = pa.array(g.integers(0, 100, rows))
    for i in range(5):
        columns[f"s{i}"] = pa.array(g.choice(["DE", "FR", "NO", "US"], rows))
    return pa.table(columns)


def _rules() -> Rules:
    """One rule a column (besides nulls): bounds, listed values, a pattern, lengths."""
    numbers = {
        f"x{i}": ColumnRules(min=-10, nullable=i < 4) if i % 2 == 0 else ColumnRules(max=10, nullable=i < 4)
        for i in range(20)
    }
    whole = {f"n{i}": ColumnRules(max=100) for i in range(5)}
    texts = {f"s{i}": ColumnRules(one_of=["DE", "FR", "NO", "US"]) for i in range(3)}
    more = {"s3": ColumnRules(regex="[A-Z]{2}"), "s4": ColumnRules(max_length=2)}
    return Rules(version=1, columns=numbers | whole | texts | more)


def _ours(table: pa.Table, rules: Rules, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        judgement = judge(rules, table, NOW)
        best = min(best, time.perf_counter() - began)
        assert [outcome.rule for outcome in judgement.outcomes] == ["x19.max"]
    return best


def _theirs(table: pa.Table, rules: Rules, repeats: int) -> dict[str, float]:
    kinds = {"double": "float", "int64": "int", "string": "string"}
    with TemporaryDirectory() as folder:
        path = Path(folder, "table.arrow")
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        task = {
            "table": str(path),
            "types": {field.name: kinds[str(field.type)] for field in table.schema},
            "rules": msgspec.to_builtins(rules),
            "repeats": repeats,
        }
        inputs = Path(folder, "task.json")
        inputs.write_text(json.dumps(task))
        return foreign.ask("pandera", "timed", inputs)


if __name__ == "__main__":
    main()
