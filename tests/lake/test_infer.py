"""Rules are proposed from a sample: they hold for the sample, and read back as they were written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from holdtrue_lake.expectations import assess
from holdtrue_lake.infer import NotInferable, dataset_schema, infer
from holdtrue_lake.judge import judge
from holdtrue_lake.layout import Layout
from holdtrue_lake.profile import observe
from holdtrue_lake.rules import ColumnRules, Mean, NullRate
from holdtrue_lake.rules_yaml import dump, load
from holdtrue_lake.schema import schema_problems
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def sample(seed: int, rows: int = 1_000) -> pa.Table:
    g = np.random.default_rng(seed)
    return pa.table(
        {
            "id": pa.array(g.permutation(rows)),
            "amount": pa.array(g.gamma(2, 10, rows), mask=g.random(rows) < 0.1),
            "delta": g.normal(0, 1, rows),
            "country": g.choice(["DE", "NO", "FR"], rows),
            "email": [f"{i}@example.org" for i in range(rows)],
            "fraud": g.integers(0, 2, rows),
            "known": g.random(rows) < 0.5,
            "at": pa.array([NOW] * rows, pa.timestamp("us", "UTC")),
        }
    )


def test_what_is_proposed() -> None:
    rules = infer(sample(1), label="fraud", time="at")

    assert rules.columns == {
        "id": ColumnRules(type="int64", min=0, unique=True),
        "amount": ColumnRules(type="float32", nullable=True, min=0),
        "delta": ColumnRules(type="float32"),
        "country": ColumnRules(type="string", one_of=["DE", "FR", "NO"]),
        "email": ColumnRules(type="string", pii=True),
        "fraud": ColumnRules(type="int64", min=0),
        "known": ColumnRules(type="bool"),
    }
    schema = dataset_schema(rules)
    assert list(schema_problems(schema)) == []
    assert [(c.name, c.dtype) for c in schema.columns] == [(name, c.type) for name, c in rules.columns.items()]
    assert load(dump(rules)) == rules
    assert "example.org" not in dump(rules)


@pytest.mark.parametrize("seed", range(2, 12))
def test_a_further_sample_of_the_same_origin_is_accepted(seed: int) -> None:
    first, further = sample(1), sample(seed)
    rules = infer(first, label="fraud", time="at")
    reference = observe(first, Layout.of(first, pii=["email"], key=b"k" * 32))

    assert judge(rules, further, NOW).outcomes == ()
    assert [r for r in assess(rules, further, NOW, reference).reasons if r.verdict == "broken"] == []


def test_a_sample_of_another_origin_is_not() -> None:
    first = sample(1)
    rules = infer(first, label="fraud", time="at")
    moved = sample(2).set_column(2, "delta", pa.array(np.random.default_rng(3).normal(2, 1, 1_000)))
    emptied = moved.set_column(1, "amount", pa.nulls(1_000, pa.float64()))
    reference = observe(first, Layout.of(first, pii=["email"], key=b"k" * 32))

    broken = {r.column for r in assess(rules, emptied, NOW, reference).reasons if r.verdict == "broken"}

    assert broken == {"amount", "delta"}
    assert any(isinstance(e, NullRate) and e.column == "amount" and 0.1 < e.max < 0.2 for e in rules.expectations)
    assert any(isinstance(e, Mean) and e.column == "delta" and -0.7 < (e.min or 0) < -0.3 for e in rules.expectations)


def test_a_small_or_rare_value_is_not_written_down() -> None:
    rules = infer(pa.table({"s": ["a"] * 50 + ["only once"], "t": ["x", None] * 25 + ["x"]}))

    assert "only once" not in dump(rules)
    assert rules.columns["t"] == ColumnRules(type="string", nullable=True, one_of=["x"])
    assert rules.expectations == []


COLUMN = st.sampled_from(
    [
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(),
        st.none() | st.text(max_size=3),
        st.none() | st.booleans(),
    ]
).flatmap(lambda values: st.lists(values, min_size=8, max_size=8))


@given(st.dictionaries(st.text(min_size=1, max_size=5), COLUMN, min_size=1, max_size=4))
def test_rules_proposed_from_any_sample_hold_for_it(columns: dict[str, list[Any]]) -> None:
    table = pa.table({name: pa.array(values) for name, values in columns.items() if any(v is not None for v in values)})

    rules = infer(table)

    assert judge(rules, table, NOW).outcomes == ()
    assert load(dump(rules)) == rules


@pytest.mark.parametrize(
    ("table", "arguments", "message"),
    [
        (pa.table({"x": [[1]]}), {}, "column 'x' is list<"),
        (pa.table({"x": [1]}), {"label": "y"}, "the sample has no column 'y'; it has x"),
    ],
)
def test_what_cannot_be_inferred_is_said(table: pa.Table, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(NotInferable, match=message.split(";", maxsplit=1)[0]):
        infer(table, **arguments)
