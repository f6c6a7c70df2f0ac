"""What callers of one version would break on with the next."""

from __future__ import annotations

from typing import Any

import pytest
from holdtrue_models import Column, Signature
from holdtrue_models.compatibility import breaks
from msgspec.structs import replace

A, B = Column(name="a", unit="EUR"), Column(name="b", dtype="int64")
WORD = Column(name="w", dtype="string", categories=("x", "y"))
OLD = Signature.binary((A, B, WORD), ("no", "yes"), 0.5)


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        replace(OLD, threshold=0.9),
        replace(OLD, columns=(A, replace(B, dtype="float32"), WORD)),
        replace(OLD, columns=(A, B, replace(WORD, categories=("y", "x", "z")))),
        replace(OLD, columns=(B, A, WORD)),  # texts among them: every column is sent by name
        replace(OLD, columns=(replace(A, pii=True, segment=True), B, WORD)),
    ],
    ids=["same", "threshold", "wider number", "more categories", "order of named columns", "notes"],
)
def test_what_callers_need_not_care_about(new: Signature) -> None:
    assert breaks(OLD, new) == []


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (replace(OLD, columns=(A, B)), "column 'w' is gone"),
        (replace(OLD, columns=(A, B, WORD, Column(name="c"))), "column 'c' is new"),
        (replace(OLD, columns=(replace(A, dtype="int64"), B, WORD)), "column 'a' is int64, it was float32"),
        (replace(OLD, columns=(replace(A, unit="USD"), B, WORD)), "column 'a' has the unit 'USD', it had 'EUR'"),
        (replace(OLD, columns=(A, B, replace(WORD, categories=("x",)))), r"does not know the categories ['y']"),
        (Signature.binary((A, B, WORD), ("yes", "no"), 0.5), "the classes are ['yes', 'no']"),
        (replace(OLD, positive_class="no"), "the positive class is 'no'"),
        (Signature.binary((A, B, WORD), (0, 1), 0.5), "the output 'label' is gone or has another type"),
        (Signature.regression((A, B, WORD)), "the task is regression"),
    ],
)
def test_what_breaks_is_named(new: Signature, words: str) -> None:
    assert any(words in reason for reason in breaks(OLD, new))


def test_order_matters_where_rows_come_as_one_matrix() -> None:
    before, after = (Signature.binary(columns, (0, 1), 0.5) for columns in ((A, B), (B, A)))
    found: list[Any] = breaks(before, after)
    assert len(found) == 1
    assert "another order" in found[0]
