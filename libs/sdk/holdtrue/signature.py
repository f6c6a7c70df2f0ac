"""What a model takes, as its server says it, and how rows become its tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from holdtrue.errors import InvalidArgument, Unavailable, wrong_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

MATRIX = "X"
"""Name of the one input of a model whose columns are all numbers."""
_LARGEST = float(np.finfo(np.float32).max)
_DTYPES = {"float32": np.dtype(np.float32), "int64": np.dtype(np.int64), "bool": np.dtype(np.bool_)}


@dataclass(frozen=True, slots=True)
class Signature:
    """Columns in order with their dtypes, and the classes; `positive` is the positive class's index, or None."""

    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    classes: tuple[int | str, ...]
    positive: int | None

    @classmethod
    def from_json(cls, text: str) -> Signature:
        """Read the signature that ModelConfig carries."""
        try:
            document = cast("dict[str, Any]", json.loads(text))
            columns = document["columns"]
            classes = tuple(document.get("classes", ()))
            positive = document.get("positive_class")
            return cls(
                columns=tuple(column["name"] for column in columns),
                dtypes=tuple(column.get("dtype", "float32") for column in columns),
                classes=classes,
                positive=None if positive is None else classes.index(positive),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"the server's signature of the model cannot be read: {error}") from error

    @property
    def numeric(self) -> bool:
        """Whether rows travel as one float32 matrix."""
        return "string" not in self.dtypes

    def tensors(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
        """Return the rows as input tensors by name; raises InvalidArgument that names row and column."""
        _refuse_others(rows)
        for number, row in enumerate(rows):
            if set(row) != set(self.columns):
                self._refuse_names(number, row)
        columns = {name: self._column(name, dtype, rows) for name, dtype in zip(self.columns, self.dtypes, strict=True)}
        if not self.numeric:
            return columns
        return {MATRIX: np.stack([values.astype(np.float32) for values in columns.values()], axis=1)}

    def matrix(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return a [n, columns] array of numbers as the input tensor; raises InvalidArgument."""
        if not self.numeric:
            texts = [name for name, dtype in zip(self.columns, self.dtypes, strict=True) if dtype == "string"]
            raise InvalidArgument(f"columns {', '.join(texts[:5])} hold text: give rows as dicts instead of an array")
        width = len(self.columns)
        if rows.ndim != 2 or rows.shape[1] != width:  # noqa: PLR2004  rows and columns
            raise InvalidArgument(f"rows: expected an array of shape [n, {width}], got {list(rows.shape)}")
        if rows.dtype.kind not in "fiub":
            raise InvalidArgument(f"rows: expected an array of numbers, got {rows.dtype}")
        with np.errstate(over="ignore"):
            matrix = np.ascontiguousarray(rows, np.float32)
        lost = np.argwhere(np.isinf(matrix) & np.isfinite(rows))
        if len(lost):
            row, column = map(int, lost[0])
            raise _too_large(row, self.columns[column], rows[row, column])
        return {MATRIX: matrix}

    def _refuse_names(self, number: int, row: Mapping[str, Any]) -> None:
        missing = [name for name in self.columns if name not in row]
        extra = [str(name) for name in row if name not in self.columns]
        parts = [f"lacks {_some(missing)}"] * bool(missing) + [f"has unknown {_some(extra)}"] * bool(extra)
        raise wrong_row(number, f" {' and '.join(parts)}; the model takes {_some(self.columns)}", "WRONG_COLUMNS")

    def _column(self, name: str, dtype: str, rows: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
        values = [row[name] for row in rows]
        if dtype == "string":
            return np.array([_text(i, name, value) for i, value in enumerate(values)], object)
        return np.array([_number(i, name, dtype, value) for i, value in enumerate(values)], _DTYPES[dtype])


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"column {shown}" if len(names) == 1 else f"columns {shown}" + (" …" if len(names) > 10 else "")  # noqa: PLR2004


def _text(row: int, column: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_row(row, f", column {column}: expected text, got {value!r:.80}", "WRONG_TYPE")
    return value


def _number(row: int, column: str, dtype: str, value: object) -> float | int:
    if value is None and dtype == "float32":
        return float("nan")
    if isinstance(value, np.generic):
        return _number(row, column, dtype, cast("object", value.tolist()))
    if not isinstance(value, int | float) or (dtype == "int64" and not float(value).is_integer()):
        kind = "a whole number" if dtype == "int64" else "a number"
        raise wrong_row(row, f", column {column}: expected {kind}, got {value!r:.80}", "WRONG_TYPE")
    if abs(value) > _LARGEST and not math.isinf(value):
        raise _too_large(row, column, value)
    return value


def _too_large(row: int, column: str, value: float) -> InvalidArgument:
    return wrong_row(row, f", column {column}: expected a number up to {_LARGEST:.6g}, got {value:.6g}", "TOO_LARGE")


def _refuse_others(rows: object) -> None:
    """Raise for anything but a list of dicts."""
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise InvalidArgument(f"rows: expected a dict, a list of dicts or an array, got {type(rows).__name__}")
    for number, row in enumerate(cast("Sequence[object]", rows)):
        if not isinstance(row, Mapping):
            raise wrong_row(number, f": expected a dict, got {type(row).__name__}", "WRONG_TYPE")
