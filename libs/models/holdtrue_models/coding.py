"""From named columns to the numbers that a model sees, and their shape. Texts are coded here, once, at the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from holdtrue_models.errors import WrongInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdtrue_stats.arrays import Float32s

    from holdtrue_models.signature import Column, Signature

UNKNOWN = -1.0
"""The code of a text that is none of the known categories."""


def check_rows(x: Float32s, width: int) -> None:
    """Raise WrongInput unless x is float32 [n, width] with at least one row."""
    if x.dtype != np.float32 or x.shape[1:] != (width,) or not x.size:
        raise WrongInput(f"the model takes float32 rows of shape [n, {width}], got {x.dtype} {list(x.shape)}")


def encode(signature: Signature, columns: Mapping[str, Sequence[Any]]) -> Float32s:
    """Return the rows float32 [n, d] of named columns of equal length.

    A text becomes its place in the column's categories, -1 if it is none of them; what is missing (None) becomes NaN.
    Raises WrongInput that names the column, what was expected and what came.
    """
    missing = [name for name in signature.names if name not in columns]
    extra = sorted(set(columns) - set(signature.names))
    if missing or extra:
        raise WrongInput(f"the model takes the columns {list(signature.names)}; missing: {missing}, unknown: {extra}")
    lengths = {len(columns[name]) for name in signature.names}
    if len(lengths) != 1 or 0 in lengths:
        raise WrongInput(f"the columns have {sorted(lengths)} rows; they need the same number, at least one")
    return np.stack([code(column, columns[column.name]) for column in signature.columns], axis=1)


def code(column: Column, values: Sequence[Any]) -> Float32s:
    """Return one column float32 [n]. Raises WrongInput."""
    if column.dtype != "string":
        return _numbers(column, values)
    codes = {category: float(place) for place, category in enumerate(column.categories)}
    coded: list[float] = []
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise WrongInput(f"row {row}, column {column.name!r}: expected a text, got {value!r}")
        coded.append(np.nan if value is None else codes.get(value, UNKNOWN))
    return np.array(coded, np.float32)


def _numbers(column: Column, values: Sequence[Any]) -> Float32s:
    try:
        numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    except (TypeError, ValueError) as error:
        raise WrongInput(f"column {column.name!r}: expected numbers, got {str(error)[:100]}") from error
    with np.errstate(over="ignore"):
        cast = numbers.astype(np.float32)
    lost = np.flatnonzero(np.isinf(cast) & np.isfinite(numbers))
    if lost.size:
        raise WrongInput(f"row {lost[0]}, column {column.name!r}: {numbers[lost[0]]} does not fit float32")
    return cast
