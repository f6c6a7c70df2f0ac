"""Rules on generated tables, nulls and NaN everywhere, agree with a naive reading of each record and with pandera."""

from __future__ import annotations

import json
import math
import random
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from holdtrue_lake.faults import Code
from holdtrue_lake.judge import judge
from holdtrue_lake.rules import ColumnRules, Condition, EventTime, Rules, Unique
from holdtrue_lake.rules_yaml import RulesInvalid
from holdtrue_lake.texts import few_texts
from holdtrue_local import foreign
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MISSING = foreign.missing("pandera")
TYPES = {"float": pa.float64(), "int": pa.int64(), "string": pa.string(), "bool": pa.bool_()}
VALUES: dict[str, list[Any]] = {
    "float": [None, math.nan, -1.0, 0.0, -0.0, 0.1, 2.5, 1e300],
    "int": [None, -5, 0, 1, 2, 3, 2**53 + 1],
    "string": [None, "", "DE", "FR", "de", "DEX", "ünï", "a b"],
    "bool": [None, True, False],
}
Case = dict[str, Any]
Broken = dict[str, list[int]]


def made(seed: int) -> Case:
    """A table of a few rows, and rules for it; rules of uniqueness stand alone, because ours come after the others."""
    g = random.Random(seed)  # noqa: S311
    rows, only_unique = g.randint(0, 12), g.random() < 0.2
    columns: dict[str, Any] = {}
    rules: dict[str, Any] = {}
    for name in "abcdefg"[: g.randint(1, 7)]:
        kind = g.choice(list(VALUES))
        clean = g.random() < 0.3
        values = [value for value in VALUES[kind] if not (clean and missing(value))]
        columns[name] = {"type": kind, "values": [g.choice(values) for _ in range(rows)]}
        rules[name] = {"unique": True, "nullable": True} if only_unique else some_rules(g, kind)
    numbers = [name for name, column in columns.items() if column["type"] == "float"]
    conditions: list[dict[str, str]] = []
    if len(numbers) > 1 and not only_unique:
        conditions = [{"id": "order", "condition": f"{numbers[0]} <= {numbers[1]}"}]
    return {"columns": columns, "rules": {"version": 1, "columns": rules, "conditions": conditions}}


def some_rules(g: random.Random, kind: str) -> dict[str, Any]:
    possible: dict[str, Any] = {"nullable": True}
    if kind in {"float", "int"}:
        possible |= {"min": g.choice([-1, 0, 1]), "max": g.choice([0, 2, 3] if kind == "int" else [0.1, 2.5, 3])}
    if kind == "int":
        possible["one_of"] = [0, 1, 2]
    if kind == "string":
        possible |= {"one_of": ["DE", "FR"], "min_length": 1, "max_length": g.choice([2, 3]), "regex": "[A-Z]{2}|a.b"}
    return {key: value for key, value in possible.items() if g.random() < 0.6}


def missing(value: object) -> bool:
    return value is None or value != value  # noqa: PLR0124  NaN


def ours(case: Case) -> tuple[Broken, list[int]]:
    table = pa.table({name: pa.array(c["values"], TYPES[c["type"]]) for name, c in case["columns"].items()})
    judgement = judge(msgspec.convert(case["rules"], Rules), table, NOW)
    assert all(outcome.count == len(outcome.rows) for outcome in judgement.outcomes)
    return {o.rule: list(o.rows) for o in judgement.outcomes}, np.flatnonzero(judgement.bad).tolist()


# --- a naive reading ----------------------------------------------------------------------------------------------


def holds(key: str, value: Any, bound: Any) -> bool:  # noqa: PLR0911  one for each rule
    match key:
        case "min":
            return value >= bound
        case "max":
            return value <= bound
        case "one_of":
            return value in bound
        case "min_length":
            return len(value) >= bound
        case "max_length":
            return len(value) <= bound
        case "regex":
            return re.fullmatch(bound, value) is not None
        case _:
            return True  # judged apart


def naive(case: Case) -> Broken:
    found: Broken = {}
    columns = {name: column["values"] for name, column in case["columns"].items()}
    for name, rules in case["rules"]["columns"].items():
        for row, value in enumerate(columns[name]):
            if missing(value):
                broken = [] if rules.get("nullable") else ["nullable"]
            else:
                broken = [key for key, bound in rules.items() if not holds(key, value, bound)]
                broken += ["unique"] if rules.get("unique") and value in columns[name][:row] else []
            for key in broken:
                found.setdefault(f"{name}.{key}", []).append(row)
    for rule in case["rules"]["conditions"]:
        left, _, right = rule["condition"].split(" ")
        pairs = enumerate(zip(columns[left], columns[right], strict=True))
        rows = [row for row, (a, b) in pairs if missing(a) or missing(b) or not a <= b]
        found |= silenced({rule["id"]: rows}, found, left, right)
    return found


def silenced(condition: Broken, found: Broken, *columns: str) -> Broken:
    """A condition says nothing of records whose fields are wrong already."""
    wrong = {row for rule, rows in found.items() if rule.split(".")[0] in columns for row in rows}
    kept = {rule: [row for row in rows if row not in wrong] for rule, rows in condition.items()}
    return {rule: rows for rule, rows in kept.items() if rows}


@pytest.mark.parametrize("start", range(0, 1000, 250))
def test_rules_agree_with_a_naive_reading(start: int) -> None:
    for seed in range(start, start + 250):
        case = made(seed)
        expected = naive(case)

        assert ours(case) == (expected, sorted({row for rows in expected.values() for row in rows})), (seed, case)


# --- pandera ------------------------------------------------------------------------------------------------------


def compare_with_pandera(seeds: range, folder: Path) -> None:
    cases = [made(seed) for seed in seeds]
    path = folder / "cases.json"
    path.write_text(json.dumps(cases))
    answers = foreign.ask("pandera", "judge", path)["cases"]
    assert len(answers) == len(cases)
    for seed, case, answer in zip(seeds, cases, answers, strict=True):
        found, _ = ours(case)
        assert found == as_we_say_it(case, answer["pandas"]), ("pandas", seed, case)
        narrow = {rule: rows for rule, rows in found.items() if rule != "order" and not rule.endswith(".unique")}
        assert narrow == answer["polars"], ("polars", seed, case)


def as_we_say_it(case: Case, said: Broken) -> Broken:
    """What we decide differently: nulls repeat each other there, and a condition judges every record."""
    columns = {name: column["values"] for name, column in case["columns"].items()}
    for rule in [rule for rule in said if rule.endswith(".unique")]:
        said[rule] = [row for row in said[rule] if not missing(columns[rule.split(".")[0]][row])]
    narrow = {rule: rows for rule, rows in said.items() if rule != "order" and rows}
    conditions = {rule["id"]: rule["condition"].split(" ")[::2] for rule in case["rules"]["conditions"]}
    for rule, operands in conditions.items():
        narrow |= silenced({rule: said.get(rule, [])}, narrow, *operands)
    return narrow


@pytest.mark.peers
@pytest.mark.timeout(600)
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_rules_agree_with_pandera(tmp_path: Path) -> None:
    compare_with_pandera(range(200), tmp_path)


@pytest.mark.long
@pytest.mark.peers
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize("part", range(1, 35))
def test_rules_agree_with_pandera_on_ten_thousand_tables(tmp_path: Path, part: int) -> None:
    compare_with_pandera(range(300 * part, 300 * part + 300), tmp_path)


# --- what generated tables do not reach ---------------------------------------------------------------------------


def outcomes(rules: Rules, **columns: Any) -> list[tuple[str, str, tuple[int, ...]]]:
    table = pa.table(
        {name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in columns.items()}
    )
    return [(o.rule, str(o.code), o.rows) for o in judge(rules, table, NOW).outcomes]


def test_an_outcome_names_the_first_hundred_rows_and_counts_all() -> None:
    rules = Rules(version=1, columns={"x": ColumnRules(max=0)})

    [outcome] = judge(rules, pa.table({"x": [0, *range(1, 251)]}), NOW).outcomes

    assert (outcome.count, outcome.rows) == (250, tuple(range(1, 101)))
    assert (outcome.rule, outcome.code, outcome.expected) == ("x.max", Code.OUT_OF_RANGE, "at most 0")


@pytest.mark.parametrize("planted", [None, math.nan])
def test_a_planted_null_gets_through_nowhere(planted: float | None) -> None:
    """`and` that is not Kleene's makes `true and null` null, and a mask of nulls lets the record through."""
    x, y = pa.array([1.0, planted, 1.0]), pa.array([1.0, 1.0, planted])
    only_required = Rules(version=1, columns={"x": ColumnRules(min=0), "y": ColumnRules(max=9)})
    condition = Rules(version=1, conditions=[Condition(id="both", condition="x > 0 and y > 0")])
    excused = Rules(version=1, conditions=[Condition(id="both", condition="(x is null or x > 0) and y > 0")])

    assert outcomes(only_required, x=x, y=y) == [("x.nullable", "MISSING", (1,)), ("y.nullable", "MISSING", (2,))]
    assert outcomes(condition, x=x, y=y) == [("both", "RULE", (1, 2))]
    assert outcomes(excused, x=x, y=y) == [("both", "RULE", (2,))]


def test_a_bound_beside_float32_is_the_nearest_float32() -> None:
    rules = Rules(version=1, columns={"x": ColumnRules(min=0.1, max=0.1)})

    assert outcomes(rules, x=pa.array([0.1, 0.2], pa.float32())) == [("x.max", "OUT_OF_RANGE", (1,))]


def test_whole_numbers_that_float64_rounds_are_judged_exactly() -> None:
    rules = Rules(version=1, columns={"x": ColumnRules(max=2**53)})
    fractional = Rules(version=1, columns={"x": ColumnRules(min=0.5)})

    assert outcomes(rules, x=[2**53, 2**53 + 1, None]) == [
        ("x.nullable", "MISSING", (2,)),
        ("x.max", "OUT_OF_RANGE", (1,)),
    ]
    assert outcomes(fractional, x=[0, 2**60 + 1]) == [("x.min", "OUT_OF_RANGE", (0,))]


def test_a_corrected_record_is_no_duplicate_of_the_refused_one() -> None:
    rules = Rules(
        version=1,
        columns={"id": ColumnRules(unique=True), "x": ColumnRules(min=0)},
        unique=[Unique(id="pair", columns=["id", "x"])],
    )

    assert outcomes(rules, id=[7, 7, 7, 8], x=[-1, 1, 1, 1]) == [
        ("x.min", "OUT_OF_RANGE", (0,)),
        ("id.unique", "DUPLICATE", (2,)),
        ("pair", "DUPLICATE", (2,)),
    ]


def test_pairs_are_unique_as_pairs_and_zero_equals_minus_zero() -> None:
    rules = Rules(version=1, unique=[Unique(id="pair", columns=["a", "b", "c"])])

    assert outcomes(
        rules, a=["x", "x", "y", "x", None, None], b=[0.0, 1.0, 0.0, -0.0, 1.0, 1.0], c=[1, 1, 1, 1, 1, 1]
    ) == [("pair", "DUPLICATE", (3,))]


def test_event_times_are_bounded_on_both_sides() -> None:
    rules = Rules(version=1, time="at", event_time=EventTime(max_age="1d", max_ahead="5m"))
    ages = [timedelta(0), timedelta(days=1), timedelta(days=1, seconds=1), timedelta(minutes=-5), timedelta(minutes=-6)]
    expected = [("event_time.max_age", "TOO_LATE", (2,)), ("event_time.max_ahead", "OUT_OF_RANGE", (4,))]

    times = [NOW - age for age in ages]
    for at in (
        times,
        [time.timestamp() for time in times],
        [time.isoformat() for time in times],
        [int(time.timestamp()) for time in times],
    ):
        assert outcomes(rules, at=at) == expected


def test_types_and_absent_columns() -> None:
    rules = Rules(
        version=1,
        columns={
            "text": ColumnRules(type="int64", max=3),
            "whole": ColumnRules(type="int64", max=3),
            "gone": ColumnRules(),
            "may_go": ColumnRules(required=False, min=3),
        },
        conditions=[Condition(id="sum", condition="whole + text > 0")],
    )

    assert outcomes(rules, text=["x", "y"], whole=[1.5, 4.0]) == [
        ("text.type", "WRONG_TYPE", (0, 1)),
        ("whole.type", "WRONG_TYPE", (0,)),
        ("gone.required", "MISSING", (0, 1)),
        ("whole.max", "OUT_OF_RANGE", (1,)),
    ]


def test_dictionaries_chunks_and_large_strings_are_judged_by_value() -> None:
    rules = Rules(version=1, columns={"s": ColumnRules(one_of=["a"], max_length=1, regex="a|b", unique=True)})
    expected = [("s.one_of", "NOT_ALLOWED", (1,)), ("s.unique", "DUPLICATE", (2,))]

    texts = pa.array(["a", "b", "a"])
    for column in (
        texts,
        texts.dictionary_encode(),
        texts.cast(pa.large_string()),
        pa.chunked_array([texts[:1], texts[1:]]),
    ):
        judgement = judge(rules, pa.table({"s": column}), NOW)
        assert [(o.rule, str(o.code), o.rows) for o in judgement.outcomes] == expected


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({"columns": {"s": {"min": 1}}}, "columns.s.min: only columns of numbers have bounds, this one is string"),
        ({"columns": {"i": {"max_length": 1}}}, "columns.i.max_length: only columns of texts have it"),
        ({"columns": {"s": {"regex": "(a"}}}, "columns.s.regex: Invalid regular expression: missing ): (a"),
        ({"columns": {"s": {"regex": "a)|(b"}}}, "columns.s.regex: Invalid regular expression"),
        ({"columns": {"s": {"one_of": ["a", 1]}}}, "columns.s.one_of: expected values of a column of string, got 1"),
        ({"columns": {"i": {"max": 10**400}}}, "columns.i.max: "),
        ({"columns": {"x": {"max": 10**400}}}, "columns.x.max: "),
        ({"unique": [{"id": "u", "columns": ["i", "no"]}]}, "unique[0].columns: there is no column 'no'; there are"),
        ({"conditions": [{"id": "c", "condition": "i >"}]}, "conditions[0].condition: at character 4: expected"),
        (
            {"unique": [{"id": "u", "columns": ["i"]}], "conditions": [{"id": "u", "condition": "i > 1"}]},
            "conditions[0].id: two rules have the id 'u'",
        ),
    ],
)
def test_rules_that_do_not_fit_the_columns_are_refused(rules: dict[str, Any], problem: str) -> None:
    table = pa.table({"s": ["a"], "i": [1], "x": [1.0]})

    with pytest.raises(RulesInvalid) as error:
        judge(msgspec.convert({"version": 1} | rules, Rules), table, NOW)

    assert str(error.value).startswith(problem)


@given(
    st.lists(st.none() | st.text("aé\x00€", max_size=8), min_size=1, max_size=20),
    st.lists(st.none() | st.text(max_size=3), max_size=3),
    st.integers(0, 30),
)
def test_few_texts_are_found_whatever_they_are(common: list[str | None], rare: list[str | None], start: int) -> None:
    array = pa.array([*(common * 2_500)[:2_500], *rare], pa.string())[start:]

    found = few_texts(array)

    expected = {text for text in array.to_pylist() if text is not None}
    if found is not None:
        assert sorted(found.to_pylist()) == sorted(expected)
    if expected and len(expected) <= 16 and all(len(text.encode()) <= 7 for text in expected):
        assert found is not None


def test_long_columns_of_few_texts_are_judged_like_others() -> None:
    rules = Rules(
        version=1,
        columns={
            "one_of": ColumnRules(one_of=["DE", "FR"], nullable=True),
            "regex": ColumnRules(regex="[A-Z]{2}"),
            "length": ColumnRules(max_length=2),
        },
    )
    good, bad = ["DE", "FR"] * 2_000, ["DE", "FR"] * 1_999 + ["FR", "xxx"]
    nullable = [None, *good[1:]]

    assert outcomes(rules, one_of=nullable, regex=good, length=good) == []
    assert outcomes(rules, one_of=[None, *bad[1:]], regex=bad, length=bad) == [
        ("one_of.one_of", "NOT_ALLOWED", (3_999,)),
        ("regex.regex", "NOT_ALLOWED", (3_999,)),
        ("length.max_length", "OUT_OF_RANGE", (3_999,)),
    ]
