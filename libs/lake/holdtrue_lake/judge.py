"""Rules applied to a table in memory that was not made by our reader: a file, a sample, another's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from holdtrue_lake.checks import compile_rules
from holdtrue_lake.event_bounds import time_findings
from holdtrue_lake.faults import Code
from holdtrue_lake.payload import KINDS, WORKING, fitted
from holdtrue_lake.times import event_times
from holdtrue_lake.views import Finding, View, one_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from holdtrue_lake.faults import Outcome
    from holdtrue_lake.payload import Mask
    from holdtrue_lake.rules import Rules

_FAMILIES: Mapping[str, tuple[Any, ...]] = {
    "float32": (pa.types.is_floating,),
    "int64": (pa.types.is_integer,),
    "string": (pa.types.is_string, pa.types.is_large_string),
    "bool": (pa.types.is_boolean,),
}


@dataclass(frozen=True)
class Judgement:
    """What record rules say of a table: the mask of the rows that break one, and an outcome for each broken rule."""

    bad: Mask
    outcomes: tuple[Outcome, ...]


def judge(rules: Rules, table: pa.Table, now: datetime) -> Judgement:
    """Apply record rules to the columns that they name; others are not looked at.

    Raises RulesInvalid if rules do not fit the table's types.
    """
    arrays = {name: one_array(table.column(name)) for name in table.column_names}
    checked = [name for name in rules.columns if name in arrays]
    wrong: dict[str, Mask] = {}
    for name in checked:
        dtype = rules.columns[name].type
        if dtype and not any(belongs(arrays[name].type) for belongs in _FAMILIES[dtype]):
            arrays[name], wrong[name] = fitted(arrays[name], dtype)
    types = {name: array.type for name, array in arrays.items()}
    absent = {name: WORKING[rule.type] for name, rule in rules.columns.items() if name not in arrays and rule.type}
    view = View(table.num_rows, arrays.__getitem__)
    known = {name: rule for name, rule in rules.columns.items() if name in types}
    checker = compile_rules(msgspec.structs.replace(rules, columns=known), types | absent)
    found = [*_presence(rules, view, arrays, wrong), *_times(rules, arrays, now)]
    found += checker.findings(view, arrays.__contains__, found)
    return Judgement(view.bad, tuple(finding.outcome() for finding in found))


def _presence(rules: Rules, view: View, arrays: Mapping[str, pa.Array], wrong: Mapping[str, Mask]) -> Iterator[Finding]:
    for name, rule in rules.columns.items():
        kind = KINDS[rule.type] if rule.type else "a value"
        if name in wrong and wrong[name].any():
            yield Finding(name, Code.WRONG_TYPE, kind, wrong[name], rule.pii, f"{name}.type", (name,))
        if name not in arrays:
            if rule.required:
                everywhere = np.ones(view.rows, np.bool_)
                yield Finding(name, Code.MISSING, kind, everywhere, rule.pii, f"{name}.required", (name,))
        elif not rule.nullable and (column := view.values(name)).null_count:
            missing = column.is_null().to_numpy(zero_copy_only=False) & ~wrong.get(name, np.False_)
            if missing.any():
                yield Finding(name, Code.MISSING, kind, missing, rule.pii, f"{name}.nullable", (name,))


def _times(rules: Rules, arrays: Mapping[str, pa.Array], now: datetime) -> Iterator[Finding]:
    if rules.event_time is not None and rules.time in arrays:
        micros, missing, wrong = event_times(pa.chunked_array([arrays[rules.time]]))
        yield from time_findings(rules.event_time, rules.time, micros, ~(missing | wrong), now)
