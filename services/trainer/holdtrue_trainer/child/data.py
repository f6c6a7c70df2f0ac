"""From the rows of a dataset version to matrices."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from holdtrue_models.signature import Column, Label

from holdtrue_trainer.domain.recipe import Recipe, RecipeError
from holdtrue_trainer.domain.split import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from holdtrue_stats.arrays import Bools, Float32s, Ints
    from numpy.typing import NDArray

    from holdtrue_trainer.child.exchange import ColumnNote, Job

_BINARY = 2


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled rows: x float32 [n, d], y [n] whether the label is the positive class, times int64 ns [n]."""

    columns: tuple[Column, ...]
    classes: tuple[Label, Label]
    x: Float32s
    y: Bools
    times: Ints

    def take(self, mask: Bools) -> Rows:
        """Return the rows of the mask."""
        return Rows(self.columns, self.classes, self.x[mask], self.y[mask], self.times[mask])

    @property
    def digest(self) -> str:
        """The sha256 of all values in their order, hexadecimal."""
        parts = (self.x.astype("<f4"), self.y, self.times.astype("<i8"))
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.y)


def load(path: Path, job: Job, recipe: Recipe) -> Rows:
    """Read the rows that have a label. Raises DataError or RecipeError."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    table = table.filter(pc.is_valid(table[job.label]))
    if not len(table):
        raise DataError(f"no row has a label in column {job.label!r}; a model cannot learn from unlabelled rows")
    columns = _columns(job, recipe)
    classes, y = _labels(table[job.label], job.label, recipe)
    x = np.column_stack([_numbers(table[column.name]) for column in columns])
    times = _array(table[job.time].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()))
    return Rows(columns, classes, x, y, times.astype(np.int64))


def _columns(job: Job, recipe: Recipe) -> tuple[Column, ...]:
    notes = {note.name: note for note in job.columns}
    unknown = [name for name in recipe.columns if name not in notes]
    if unknown:
        raise RecipeError(f"columns: {unknown} are not inputs of the dataset; it has {sorted(notes)}")
    wanted = [notes[name] for name in recipe.columns] or list(job.columns)
    text = [note.name for note in wanted if note.dtype == "string"]
    if text:
        raise RecipeError(
            f"columns: {text} hold text, and only numeric columns can be trained on; "
            f"name the numeric ones in `columns` of the recipe, or publish the text as numbers"
        )
    if not wanted:
        raise DataError("the dataset has no column besides the label and the time; there is nothing to learn from")
    return tuple(_column(note) for note in wanted)


def _column(note: ColumnNote) -> Column:
    return Column(name=note.name, dtype=note.dtype, unit=note.unit, pii=note.pii, segment=note.segment)


def _labels(column: pa.ChunkedArray, name: str, recipe: Recipe) -> tuple[tuple[Label, Label], Bools]:
    """Return (negative, positive) and where the column is positive."""
    values: list[Label] = sorted(set(pc.unique(column).to_pylist()), key=repr)
    if len(values) != _BINARY:
        shown = ", ".join(map(repr, values[:5]))
        raise DataError(
            f"the label {name!r} has {len(values)} different values ({shown}{', ...' if values[5:] else ''}) in the "
            f"rows to train on; a binary classifier needs exactly two"
        )
    positive = _positive(values, name, recipe)
    negative = next(value for value in values if value != positive)
    flags = _array(pc.equal(column, pa.scalar(positive, column.type))).astype(np.bool_)
    return (_label(negative), _label(positive)), flags


def _positive(values: list[Label], name: str, recipe: Recipe) -> Label:
    if recipe.positive_class is not None:
        if recipe.positive_class not in values:
            raise RecipeError(f"positive_class: {recipe.positive_class!r} is not a label; {name!r} holds {values}")
        return next(value for value in values if value == recipe.positive_class)
    if set(values) == {0, 1}:
        return next(value for value in values if value)
    raise RecipeError(f"positive_class: say which of {values} in column {name!r} is the positive class, in the recipe")


def _label(value: float | str) -> Label:
    if isinstance(value, str):
        return value
    if value != int(value):
        raise DataError(f"the label {value!r} is a fraction; labels are whole numbers, truth values or text")
    return int(value)


def _numbers(column: pa.ChunkedArray) -> Float32s:
    """Return the values as float32; missing ones are NaN, infinite ones are refused by the estimators."""
    return _array(column.cast(pa.float32() if pa.types.is_boolean(column.type) else pa.float64())).astype(np.float32)


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    return column.to_numpy()
