"""What pandera says of tables, on pandas and on polars.

Runs in its environment: pandera.py TASK INPUTS → one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as on_pandas
import pandera.polars as on_polars
import polars as pl
import pyarrow as pa

warnings.filterwarnings("ignore")
PANDAS = {"float": "float64", "int": "Int64", "string": "string", "bool": "boolean"}
POLARS = {"float": pl.Float64, "int": pl.Int64, "string": pl.String, "bool": pl.Boolean}
Broken = dict[str, list[int]]


def judge(path: str) -> dict[str, list[dict[str, Broken]]]:
    """Rows of each case that break each rule, by both."""
    with Path(path).open() as file:
        return {"cases": [{"pandas": by_pandas(case), "polars": by_polars(case)} for case in json.load(file)]}


def by_pandas(case: dict[str, Any]) -> Broken:
    columns = case["columns"]
    frame = pd.DataFrame({n: pd.array(c["values"], dtype=PANDAS[c["type"]]) for n, c in columns.items()})
    schema = schema_of(on_pandas, case, PANDAS)
    try:
        schema.validate(frame, lazy=True)
    except on_pandas.errors.SchemaErrors as errors:
        return rows_by_rule(errors.failure_cases.to_dict("records"))
    return {}


def by_polars(case: dict[str, Any]) -> Broken:
    columns = case["columns"]
    frame = pl.DataFrame({n: pl.Series(n, c["values"], POLARS[c["type"]], strict=False) for n, c in columns.items()})
    try:
        schema_of(on_polars, case, POLARS).validate(frame.fill_nan(None), lazy=True)
    except on_polars.errors.SchemaErrors as errors:
        return rows_by_rule(errors.failure_cases.to_dicts())
    return {}


def rows_by_rule(failures: list[dict[str, Any]]) -> Broken:
    found: dict[str, set[int]] = {}
    for failure in failures:
        check = str(failure["check"])
        names = {"not_nullable": "nullable", "field_uniqueness": "unique"}
        rule = f"{failure['column']}.{names[check]}" if check in names else check
        found.setdefault(rule, set()).add(int(failure["index"]))
    return {rule: sorted(rows) for rule, rows in found.items()}


def schema_of(library: Any, case: dict[str, Any], types: dict[str, Any]) -> Any:
    columns = {
        name: library.Column(
            types[column["type"]],
            checks_of(library.Check, name, case["rules"]["columns"][name]),
            nullable=case["rules"]["columns"][name].get("nullable", False),
            unique=library is on_pandas and case["rules"]["columns"][name].get("unique", False),
            report_duplicates="exclude_first",
        )
        if library is on_pandas
        else library.Column(
            types[column["type"]],
            checks_of(library.Check, name, case["rules"]["columns"][name]),
            nullable=case["rules"]["columns"][name].get("nullable", False),
        )
        for name, column in case["columns"].items()
    }
    wide = [condition(library, c) for c in case["rules"].get("conditions", [])] if library is on_pandas else []
    return library.DataFrameSchema(columns, checks=wide)


def condition(library: Any, rule: dict[str, str]) -> Any:
    """Only conditions of the form `left <= right`."""
    left, _, right = rule["condition"].split(" ")
    return library.Check(lambda frame: (frame[left] <= frame[right]).fillna(False), error=rule["id"], ignore_na=False)


def checks_of(check: Any, name: str, rules: dict[str, Any]) -> list[Any]:
    makers = {
        "min": check.ge,
        "max": check.le,
        "one_of": check.isin,
        "min_length": lambda least, **kw: check.str_length(min_value=least, **kw),
        "max_length": lambda most, **kw: check.str_length(max_value=most, **kw),
        "regex": lambda pattern, **kw: check.str_matches(rf"^(?:{pattern})$", **kw),
    }
    return [make(rules[key], error=f"{name}.{key}") for key, make in makers.items() if key in rules]


def timed(path: str) -> dict[str, float]:
    """Seconds of the best of `repeats` validations of an Arrow file, all in memory and the schema made before."""
    with Path(path).open() as file:
        task = json.load(file)
    with pa.ipc.open_file(task["table"]) as reader:
        table = reader.read_all()
    case = {"columns": {name: {"type": kind} for name, kind in task["types"].items()}, "rules": task["rules"]}
    sides = {
        "pandas": (schema_of(on_pandas, case, {**PANDAS, "int": "int64"}), table.to_pandas()),
        "polars": (schema_of(on_polars, case, POLARS), pl.from_arrow(table)),
    }
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(task["repeats"]):
        for name, (schema, frame) in sides.items():
            began = time.perf_counter()
            try:
                schema.validate(frame, lazy=True)
            except (on_pandas.errors.SchemaErrors, on_polars.errors.SchemaErrors) as errors:
                broken = rows_by_rule(
                    errors.failure_cases.to_dicts() if name == "polars" else errors.failure_cases.to_dict("records")
                )
                assert broken, name
            best[name] = min(best[name], time.perf_counter() - began)
    return best


TASKS = {"judge": judge, "timed": timed}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(TASKS[sys.argv[1]](sys.argv[2])) + "\n")
