"""Propose schema and rules from a sample, for a person to review.

What refuses records is proposed only where the sample leaves little doubt: types, nulls, signs, short lists of values,
ids. Everything that is a matter of degree becomes an expectation, with room for chance, because it refuses nothing.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema

from holdtrue_lake.rules import Categories, ColumnRules, Expectation, Mean, NullRate, Psi, Rules
from holdtrue_lake.views import one_array, without_nan

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_LISTED = 20
"""A column of texts with more different values than this gets no list of them."""
SEEN_OFTEN = 5
"""Values seen less often are not written down: they may be personal."""
ENOUGH = 100
"""From this many rows on, values that all differ are taken for ids, and figures for typical."""
_PRIVATE = re.compile(r"e.?mail|phone|name|iban|address|birth|ssn|passport", re.IGNORECASE)


class NotInferable(Exception):
    """The sample has a column of a type that no dataset has; says which, and what to do."""


def infer(sample: pa.Table, label: str = "", time: str = "") -> Rules:
    """Propose rules, types included. Raises NotInferable."""
    named = [name for name in (label, time) if name and name not in sample.column_names]
    if named:
        raise NotInferable(f"the sample has no column {named[0]!r}; it has {', '.join(sample.column_names[:20])}")
    columns: dict[str, ColumnRules] = {}
    expectations: list[Expectation] = []
    for position, name in enumerate(sample.column_names):
        array = without_nan(one_array(sample.column(name)))
        if name == time and pa.types.is_timestamp(array.type):
            continue  # read as the time of the event; not stored as a column
        columns[name] = _column(name, array)
        if name == time:  # grows for ever, and two events may have the same
            columns[name] = ColumnRules(type=columns[name].type)
        else:
            expectations += _expected(f"c{position}", name, array, columns[name])
    return Rules(version=1, label=label, time=time, columns=columns, expectations=expectations)


def dataset_schema(rules: Rules) -> DatasetSchema:
    """Schema of a dataset with the columns of these rules, which must all have a type. Raises NotInferable."""
    untyped = [name for name, rule in rules.columns.items() if rule.type is None]
    if untyped:
        raise NotInferable(f"columns.{untyped[0]}.type: a schema needs the type of every column")
    columns = [ColumnSpec(name=name, dtype=str(rule.type), pii=rule.pii) for name, rule in rules.columns.items()]
    return DatasetSchema(columns=columns, label=rules.label, time=rules.time, subject=rules.subject)


def _column(name: str, array: pa.Array) -> ColumnRules:
    kind = array.type
    nullable = array.null_count > 0
    values = array.drop_null()
    if pa.types.is_boolean(kind):
        return ColumnRules(type="bool", nullable=nullable)
    if pa.types.is_integer(kind):
        unique = _all_differ(values)
        return ColumnRules(type="int64", nullable=nullable, min=_sign(values), unique=unique)
    if pa.types.is_floating(kind):
        return ColumnRules(type="float32", nullable=nullable, min=_sign(values))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text(name, values, nullable=nullable)
    raise NotInferable(f"column {name!r} is {kind}; give it as a number, a text, or true and false, or leave it out")


def _text(name: str, values: pa.Array, *, nullable: bool) -> ColumnRules:
    if _PRIVATE.search(name):
        return ColumnRules(type="string", nullable=nullable, pii=True)
    counts: list[dict[str, Any]] = pc.value_counts(values).to_pylist()
    listed = sorted(each["values"] for each in counts)
    often = all(each["counts"] >= SEEN_OFTEN for each in counts)
    if 0 < len(counts) <= MOST_LISTED and often:
        return ColumnRules(type="string", nullable=nullable, one_of=[*listed])
    return ColumnRules(type="string", nullable=nullable, unique=_all_differ(values))


def _sign(values: pa.Array) -> int | None:
    """0 if nothing is below it."""
    least = pc.min(values).as_py()
    return 0 if least is not None and least >= 0 else None


def _all_differ(values: pa.Array) -> bool:
    return len(values) >= ENOUGH and pc.count_distinct(values).as_py() == len(values)


def _expected(prefix: str, name: str, array: pa.Array, rule: ColumnRules) -> Iterator[Expectation]:
    """Expectations that a further sample of the same origin meets, but for one in thousands."""
    rows = len(array)
    if rows < ENOUGH or rule.unique or rule.pii:
        return
    if rule.nullable:
        share = (array.null_count + 1) / (rows + 2)
        most = min(1.0, share + 4 * math.sqrt(share * (1 - share) / rows))
        yield NullRate(id=f"{prefix}.nulls", column=name, max=_rounded(most, up=True))
    if rule.type == "string" and rule.one_of is None:
        yield Categories(id=f"{prefix}.new-values", column=name, max_unseen=0.05)
    if rule.type in {"float32", "int64"}:
        yield from _typical(prefix, name, array)
    yield Psi(id=f"{prefix}.drift", column=name)


def _typical(prefix: str, name: str, array: pa.Array) -> Iterator[Expectation]:
    values: Any = array.drop_null().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    values = values[np.isfinite(values)]
    spread = float(values.std()) if len(values) >= ENOUGH else 0.0
    if spread > 0 and math.isfinite(spread):
        mean, room = float(values.mean()), spread / 2  # half a standard deviation: seen at a glance in a plot
        yield Mean(
            id=f"{prefix}.mean",
            column=name,
            min=_rounded(mean - room, up=False),
            max=_rounded(mean + room, up=True),
        )


def _rounded(number: float, *, up: bool) -> float:
    """Three digits are enough for a person; never on the wrong side."""
    if number == 0:
        return 0.0
    digits = 10.0 ** (2 - math.floor(math.log10(abs(number))))
    return float(f"{(math.ceil if up else math.floor)(number * digits) / digits:.12g}")
