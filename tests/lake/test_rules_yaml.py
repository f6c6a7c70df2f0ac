"""A rules file says what it means, and what is wrong with it is told all at once, with line and key."""

from __future__ import annotations

import json
from pathlib import Path

import holdtrue_lake
import pyarrow as pa
import pytest
import yaml
from holdtrue_lake.checks import compile_rules
from holdtrue_lake.rules import ColumnRules, Condition, Psi, Range, Rules, Unique, duration, json_schema, rules_digest
from holdtrue_lake.rules_yaml import MOST_BYTES, Document, Problem, RulesInvalid, dump, load
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
GOOD = """\
version: 1
dataset: payments
time: at
columns:
  amount: {type: float32, min: 0, max: 10000.5}
  country:
    one_of: [DE, NO, "on"]   # Norway is no falsehood
    nullable: true
event_time: {max_age: 30d, max_ahead: 5m}
unique:
  - {id: one-payment, columns: [id, country]}
conditions:
  - id: order
    condition: shipped is null or shipped >= ordered
expectations:
  - {id: drift, expect: psi, column: amount}
  - {id: sane, expect: range, column: amount, max: 5000}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(RulesInvalid) as error:
        load(text)
    assert str(error.value) == "\n".join(map(str, error.value.problems))
    return [str(problem) for problem in error.value.problems]


def test_a_file_is_read() -> None:
    rules = load(GOOD)

    assert rules.columns["amount"] == ColumnRules(type="float32", min=0, max=10000.5)
    assert rules.columns["country"] == ColumnRules(one_of=["DE", "NO", "on"], nullable=True)
    assert rules.unique == [Unique(id="one-payment", columns=["id", "country"])]
    assert rules.conditions == [Condition(id="order", condition="shipped is null or shipped >= ordered")]
    assert rules.expectations == [
        Psi(id="drift", column="amount", max=0.25),
        Range(id="sane", column="amount", max=5000),
    ]
    assert rules.event_time
    assert duration(rules.event_time.max_age or "").days == 30


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("version: 1", "version: 2", "line 1: version: invalid enum value 2"),
        ("version: 1\n", "", "line 1: object missing required field `version`"),
        ("dataset: payments", "dateset: payments", "line 2: dateset: unknown key; known are columns, conditions"),
        ("min: 0,", "mim: 0,", "line 5: columns.amount.mim: object contains unknown field `mim`"),
        ("min: 0,", "min: zero,", "line 5: columns.amount.min: expected `int | float`, got `str`"),
        ("min: 0,", "min: yes,", "line 5: columns.amount.min: expected `int | float`, got `str`"),
        ("nullable: true", "nullable: 1", "line 8: columns.country.nullable: expected `bool`, got `int`"),
        ("type: float32", "type: float", "line 5: columns.amount.type: invalid enum value 'float'"),
        ("max_age: 30d", "max_age: 30 days", "line 9: event_time.max_age: expected `str` matching regex"),
        ("id: order", "id: an order", "line 13: conditions[0].id: expected `str` matching regex"),
        ("    condition:", "    conditon:", "line 14: conditions[0].conditon: object contains unknown field"),
        ("id: drift, ", "", "line 16: expectations[0]: object missing required field `id`"),
        ("expect: psi", "expect: pse", "line 16: expectations[0].expect: invalid value 'pse'"),
        ("unique:\n  - ", "unique: ", "line 10: unique: expected a list, each entry after a dash, got keys"),
        ("columns: [id, country]", "columns: []", "line 11: unique[0].columns: expected `array` of length >= 1"),
        ("dataset: payments", "dataset: a\ndataset: b", "line 3: dataset: given twice; keep one of them"),
        ("dataset: payments", "dataset: [a", "line 3: expected YAML: "),
        ("dataset: payments", "dataset: &x a\nlabel: *x", "line 3: expected YAML: aliases (*name) are not read"),
        ("max: 5000", "max: .inf", "line 17: expectations[1].max: expected `int | float | null`, got `str`"),
    ],
)
def test_an_error_names_line_and_key(before: str, after: str, expected: str) -> None:
    assert before in GOOD

    [problem] = problems(GOOD.replace(before, after, 1))

    assert problem.startswith(expected.replace("| float`,", "| float | null`,")), problem


def test_what_does_not_fit_the_columns_is_told_with_its_line() -> None:
    document = Document(GOOD)
    types = {"amount": pa.string(), "country": pa.string(), "id": pa.int64()}

    with pytest.raises(RulesInvalid) as error:
        compile_rules(document.rules, types)

    told = [str(problem).split(": ")[:2] for problem in document.located(error.value).problems]
    assert told == [
        ["line 5", "columns.amount.max"],
        ["line 5", "columns.amount.min"],
        ["line 14", "conditions[0].condition"],
    ]
    unknown = document.problem(("columns", "country", "no such key"), "odd")
    assert unknown.line == 6


def test_all_errors_are_told_in_the_order_of_their_lines() -> None:
    text = GOOD.replace("min: 0", "mim: 0").replace("id: order", "id: ''").replace("30d", "x").replace("psi", "pse")

    assert [problem.split(":")[0] for problem in problems(text)] == ["line 5", "line 9", "line 13", "line 16"]


@pytest.mark.parametrize(
    "text", ["", "- a", "text", "{[1]: 2}", "\x00", "a: " + "[" * 3000, "!!python/object/apply:os.system ['true']"]
)
def test_what_is_no_rules_file_is_refused(text: str) -> None:
    assert problems(text)


def test_a_huge_file_is_refused_unread() -> None:
    assert problems("#" * (MOST_BYTES + 1)) == [f"expected at most {MOST_BYTES} bytes, got {MOST_BYTES + 1}"]


@given(st.text(max_size=60) | st.text("version: 1\ncolumns{}[]&*-#'\"|>,? ", max_size=60))
def test_any_text_is_rules_or_told_to_be_none(text: str) -> None:
    try:
        found = load(text)
    except RulesInvalid as error:
        found = error
    assert isinstance(found, Rules) or found.problems


TRICKY = st.text(max_size=6) | st.sampled_from(["NO", "true", "1", "1e5", "0x1F", "null", "~", "-", "1_0", ".5", "é"])


@given(st.dictionaries(TRICKY, st.lists(TRICKY, min_size=1, max_size=3), max_size=3), st.integers() | st.floats(0, 1))
def test_what_is_written_is_read_back(columns: dict[str, list[str]], bound: float) -> None:
    rules = Rules(
        version=1,
        columns={name: ColumnRules(one_of=[*values], min=bound, nullable=True) for name, values in columns.items()},
        expectations=[Range(id="r", column="x", max=bound)],
    )

    assert load(dump(rules)) == rules


def test_the_digest_follows_the_meaning() -> None:
    rules = load(GOOD)

    assert rules_digest(load(GOOD.replace("   # Norway is no falsehood", ""))) == rules_digest(rules)
    assert rules_digest(load(GOOD.replace("5000", "5001"))) != rules_digest(rules)


def test_the_published_json_schema_is_that_of_the_code() -> None:
    published = Path(holdtrue_lake.__file__).with_name("rules.schema.json")

    assert json.loads(published.read_text()) == json_schema()


def test_the_example_in_the_docs_is_read() -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    example = text.split("```yaml\n", 1)[1].split("```", 1)[0]

    assert load(example).expectations
    assert yaml.safe_load(example)["version"] == 1


def test_problems_say_only_what_they_know() -> None:
    assert str(Problem(0, "a.b", "wrong")) == "a.b: wrong"
    assert str(Problem(3, "", "wrong")) == "line 3: wrong"
