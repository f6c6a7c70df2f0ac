"""Conditions mean what a naive reading of them in three-valued logic means, and nothing else is read."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from holdtrue_lake.expressions import MOST_CHARACTERS, InvalidExpression, compile_expression
from hypothesis import assume, given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

TYPES: dict[str, pa.DataType] = {
    "a": pa.float64(),
    "b": pa.int64(),
    "s": pa.string(),
    "t": pa.bool_(),
    "at": pa.timestamp("us", "UTC"),
    "small": pa.float32(),
    "is": pa.int64(),
    "two words": pa.int64(),
}


def truth(text: str, **columns: list[Any]) -> list[bool | None]:
    arrays = {name: pa.array(values, TYPES[name]) for name, values in columns.items()}
    return compile_expression(text, TYPES).evaluate(arrays.__getitem__).to_pylist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a > 1", [False, True, None]),
        ("a is null", [False, False, True]),
        ("a is not null", [True, True, False]),
        ("a is None or a >= 1", [True, True, True]),
        ("a > 1 and b > 0", [False, True, None]),
        ("a > 1 and b > 100", [False, False, False]),
        ("a > 1 or b < 100", [True, True, True]),
        ("not (a > 1)", [True, False, None]),
        ("0 < a < 2", [True, False, None]),
        ("a + b * 2 == 3", [True, False, None]),
        ("a / (b - b) > 0", [None, None, None]),
        ("-a <= -1", [True, True, None]),
        ("not t", [True, False, None]),
        ("t == false", [True, False, None]),
        ("s != 'x' and s != \"y\"", [False, True, None]),
        ('column("two words") == column("is")', [True, False, None]),
        ("small == 0.1", [True, False, None]),
        ("0.1 == small", [True, False, None]),
        ("b <= 9223372036854775807", [True, True, True]),
    ],
)
def test_what_conditions_mean(text: str, expected: list[bool | None]) -> None:
    found = truth(
        text,
        **{
            "a": [1.0, 2.0, None],
            "b": [1, 1, 1],
            "s": ["x", "z", None],
            "t": [False, True, None],
            "small": [0.1, 0.2, None],
            "is": [1, 2, None],
            "two words": [1, 1, 1],
        },
    )

    assert found == expected


def test_whole_numbers_are_compared_exactly_and_sums_do_not_wrap() -> None:
    assert truth("b == 9007199254740993", b=[2**53, 2**53 + 1]) == [False, True]
    assert truth("b + 1 > b - 1", b=[2**63 - 1, -(2**63)]) == [False, False]  # float64 rounds both sides to one value
    assert truth("b + b > 0", b=[2**63 - 1]) == [True]
    assert truth("b > 0.5", b=[2**60 + 1, 0]) == [True, False]  # Arrow's own cast would refuse what it must round


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.real > 1",
        "a[0] > 1",
        "(lambda: True)()",
        "[x for x in s] == s",
        "a if t else b",
        "f'{s}' == 'x'",
        "(a := 3) > 2",
        "column('a', 'b') > 1",
        "column(s) == 'x'",
        "column(name='a') > 1",
        "len(s) > 3",
        "a ** 9999999 > 1",
        "b << 3 > 1",
        "b % 2 == 0",
        "~b == 1",
        "+a > 1",
        "s in ('x', 'y')",
        "a is b",
        "a is 3",
        "a > 1; b > 1",
        "...",
        "b'x' == s",
        "1j == a",
        "a == null",
        "a > 99999999999999999999",
    ],
)
def test_nothing_else_is_read(text: str) -> None:
    with pytest.raises(InvalidExpression, match="expected"):
        compile_expression(text, TYPES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a + 1", "expected a condition, which is true or false, got a number"),
        ("a > 'x'", "at character 1: expected two comparable values around >, got a number and a text"),
        ("t > t", "expected two comparable values"),
        ("b > 0 and a", "at character 11: expected true or false, got a number"),
        ("s + 1 > 2", "at character 1: expected a number, got a text (`s`)"),
        ("at > 3", "a time and a number"),
        ("wrong > 1", "at character 1: expected one of the columns a, at, b"),
        ("a >", "at character 4: expected a condition such as"),
        ("1 < 2", "on at least one column"),
        ("", "at character 1: expected a condition such as"),
        ("(" * 1500, "expected"),
        ("not " * 400 + "t", "levels of nesting"),
        ("a > 1 " + " " * MOST_CHARACTERS, "characters"),
    ],
)
def test_errors_say_where_what_was_expected_and_what_is_there(text: str, message: str) -> None:
    with pytest.raises(InvalidExpression) as error:
        compile_expression(text, TYPES)

    assert message in str(error.value)


def test_no_text_is_ever_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("evaluated")

    monkeypatch.setattr("builtins.eval", refuse)
    monkeypatch.setattr("builtins.exec", refuse)

    assert truth("a > 1 and t", a=[2.0], t=[True]) == [True]


# --- a naive reading ----------------------------------------------------------------------------------------------

ROW = st.fixed_dictionaries(
    {
        "a": st.none() | st.sampled_from([-1.5, 0.0, 1.0, 2.0, math.inf]),
        "b": st.none() | st.integers(-3, 3),
        "s": st.none() | st.sampled_from(["", "x", "y"]),
        "t": st.none() | st.booleans(),
    }
)
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
NUMBER = st.recursive(
    st.sampled_from([("a",), ("b",), (0,), (1,), (-2,), (0.5,)]),
    lambda inner: st.tuples(st.sampled_from(list(ARITHMETIC)), inner, inner),
    max_leaves=4,
)
CONDITION = st.recursive(
    st.tuples(st.sampled_from(list(COMPARE)), NUMBER, NUMBER)
    | st.sampled_from([("t",), ("null", "a"), ("null", "s"), ("==", ("s",), ("'x'",)), ("<", ("s",), ("'y'",))]),
    lambda inner: (
        st.tuples(st.just("not"), inner)
        | st.tuples(st.just("and"), inner, inner)
        | st.tuples(st.just("or"), inner, inner)
    ),
    max_leaves=6,
)


def text_of(tree: tuple[Any, ...]) -> str:
    match tree:
        case (leaf,):
            return str(leaf)
        case ("null", name):
            return f"{name} is null"
        case ("not", inner):
            return f"not ({text_of(inner)})"
        case (op, left, right):
            return f"({text_of(left)} {op} {text_of(right)})"
        case _:
            raise AssertionError(tree)


def value_of(tree: tuple[Any, ...], row: dict[str, Any]) -> Any:
    match tree:
        case (str(leaf),):
            return leaf.strip("'") if leaf.startswith("'") else row[leaf]
        case (leaf,):
            return leaf
        case ("null", name):
            return row[name] is None
        case ("not", inner):
            held = value_of(inner, row)
            return None if held is None else not held
        case ("and" | "or" as op, left, right):
            sides = {value_of(left, row), value_of(right, row)}
            decisive = op == "or"
            return decisive if decisive in sides else None if None in sides else not decisive
        case (op, left, right):
            return naive(op, value_of(left, row), value_of(right, row))
        case _:
            raise AssertionError(tree)


def naive(op: str, left: Any, right: Any) -> Any:
    if left is None or right is None:
        return None
    if op in COMPARE:
        return COMPARE[op](left, right)
    if op == "/" and right == 0:
        return None
    result = float(ARITHMETIC[op](left, right))
    return result if math.isfinite(result) else None


@given(CONDITION, st.lists(ROW, min_size=1, max_size=8))
def test_conditions_mean_what_a_naive_reading_says(tree: tuple[Any, ...], rows: list[dict[str, Any]]) -> None:
    text = text_of(tree)
    assume(any(name in text.replace("and", "").replace("not", "") for name in "abst"))  # else refused, see above
    columns = {name: [row[name] for row in rows] for name in ("a", "b", "s", "t")}

    assert truth(text, **columns) == [value_of(tree, row) for row in rows]
