from __future__ import annotations

import pytest
from holdtrue_core.errors import InvalidArgument
from holdtrue_registry.rpc.paging import last_of, number_of, page_size, token
from hypothesis import given
from hypothesis import strategies as st


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_token_names_the_last_item(last: str) -> None:
    assert last_of(token(last)) == last


@given(st.integers(0, 2**63 - 1))
def test_a_token_names_the_last_number(number: int) -> None:
    assert number_of(token(str(number))) == number


def test_the_first_page_has_no_token() -> None:
    assert last_of("") == ""
    assert number_of("") == 2**63 - 1


@pytest.mark.parametrize("bad", ["%%%", "abc", token("x"), token("-1"), token(str(2**63)), token("²")])
def test_a_foreign_token_is_refused(bad: str) -> None:
    with pytest.raises(InvalidArgument, match="is no token of this listing"):
        number_of(bad)


@pytest.mark.parametrize("size", [-1, 501])
def test_pages_have_a_limit(size: int) -> None:
    with pytest.raises(InvalidArgument, match="page_size"):
        page_size(size)


def test_pages_have_a_default() -> None:
    assert (page_size(0), page_size(7)) == (100, 7)
