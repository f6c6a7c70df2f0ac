from __future__ import annotations

import pytest
from holdtrue_lake.ranges import Ranges
from hypothesis import given
from hypothesis import strategies as st

SPANS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)).map(lambda s: (s[0], s[0] + s[1])), max_size=5)


def numbers(spans: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in spans for number in range(first, last + 1)}


@given(SPANS, SPANS)
def test_ranges_are_sets_of_numbers(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    a, b = Ranges.of(left), Ranges.of(right)
    x, y = numbers(left), numbers(right)

    assert list(a.numbers()) == sorted(x)
    for ranges, expected in ((a | b, x | y), (a - b, x - y), (a & b, x & y)):
        assert list(ranges.numbers()) == sorted(expected)
        assert ranges == Ranges.of((number, number) for number in expected), "not the shortest form"
        assert bool(ranges) == bool(expected)
    assert all((number in a) == (number in x) for number in range(20))


@pytest.mark.parametrize("span", [(-1, 3), (4, 3)])
def test_what_is_no_range_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is no range of commits"):
        Ranges.of([span])


def test_ranges_read_well() -> None:
    assert str(Ranges.of([(60, 60), (0, 40), (41, 49)])) == "0-49, 60"
    assert str(Ranges()) == "none"
