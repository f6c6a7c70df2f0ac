"""The table of the docs is what happens."""

from __future__ import annotations

import pytest

from .estimators import PAGE, table, written


@pytest.mark.long
@pytest.mark.timeout(900)
def test_table_of_estimators_is_up_to_date() -> None:
    page = PAGE.read_text()
    assert written(page, table()) == page
