"""What a model takes and gives, in words that a client can read without the model."""

from __future__ import annotations

import hashlib
from typing import Literal, Self

import msgspec

from holdtrue_models.errors import MalformedModel

Dtype = Literal["float32", "int64", "string", "bool"]
Task = Literal["binary", "multiclass", "regression"]
Label = int | str

MAX_COLUMNS = 10_000


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input column. `categories`: its known values in code order, if it is coded; `pii`: values are personal."""

    name: str
    dtype: Dtype = "float32"
    categories: tuple[str, ...] = ()
    unit: str = ""
    pii: bool = False
    segment: bool = False


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output tensor: an Open Inference Protocol datatype; -1 in the shape stands for the number of rows."""

    name: str
    datatype: Literal["INT64", "BYTES", "FP32"]
    shape: tuple[int, ...]


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Columns in order, classes in the order of the probabilities, and the outputs.

    A binary model flags a row when the probability of `positive_class` is at least `threshold`.
    """

    columns: tuple[Column, ...]
    task: Task
    classes: tuple[Label, ...] = ()
    positive_class: Label | None = None
    threshold: float | None = None
    outputs: tuple[Output, ...]

    @classmethod
    def binary(cls, columns: tuple[Column, ...], classes: tuple[Label, Label], threshold: float) -> Self:
        """Return the signature of a binary classifier; classes are (negative, positive)."""
        return cls(
            columns=columns,
            task="binary",
            classes=classes,
            positive_class=classes[1],
            threshold=threshold,
            outputs=_outputs(classes),
        )

    @classmethod
    def multiclass(cls, columns: tuple[Column, ...], classes: tuple[Label, ...]) -> Self:
        """Return the signature of a classifier of three classes or more, in the order of its probabilities."""
        return cls(columns=columns, task="multiclass", classes=classes, outputs=_outputs(classes))

    @classmethod
    def regression(cls, columns: tuple[Column, ...]) -> Self:
        """Return the signature of a model that answers with one number."""
        return cls(columns=columns, task="regression", outputs=(Output("value", "FP32", (-1, 1)),))

    def __post_init__(self) -> None:
        """Refuse a signature that contradicts itself."""
        names = [column.name for column in self.columns]
        if not 1 <= len(names) <= MAX_COLUMNS:
            raise MalformedModel(f"a signature has 1 to {MAX_COLUMNS} columns, this one has {len(names)}")
        if len(set(names)) != len(names):
            repeated = next(name for name in names if names.count(name) > 1)
            raise MalformedModel(f"column {repeated!r} is in the signature twice; every name may be there once")
        if len(set(self.classes)) != len(self.classes) or (self.task == "regression" and self.classes):
            raise MalformedModel(f"a {self.task} signature cannot have the classes {list(self.classes)}")
        if self.task == "binary" and not self._is_binary():
            raise MalformedModel(
                f"a binary signature needs two classes, one of them positive, and a threshold from 0 to 1; "
                f"got classes {list(self.classes)}, positive {self.positive_class!r}, threshold {self.threshold!r}"
            )

    @property
    def numeric(self) -> bool:
        """Whether every column is a number, so that rows can come as one float32 matrix in column order."""
        return all(column.dtype != "string" for column in self.columns)

    @property
    def uncoded(self) -> tuple[str, ...]:
        """The names of the text columns without categories, which nothing can turn into numbers."""
        return tuple(column.name for column in self.columns if column.dtype == "string" and not column.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def digest(self) -> str:
        """The sha256 of the JSON form, hexadecimal."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Return the signature as JSON; equal signatures give equal bytes."""
        return msgspec.json.encode(self, order="sorted")

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read what `to_json` wrote. Raises MalformedModel."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise MalformedModel(f"this is not a model signature: {error}") from error

    def _is_binary(self) -> bool:
        classes_fit = len(set(self.classes)) == len(self.classes) == 2 and self.positive_class in self.classes  # noqa: PLR2004 - binary
        return classes_fit and self.threshold is not None and 0 <= self.threshold <= 1


def _outputs(classes: tuple[Label, ...]) -> tuple[Output, ...]:
    label = "INT64" if all(isinstance(c, int) for c in classes) else "BYTES"
    return Output("label", label, (-1,)), Output("probabilities", "FP32", (-1, len(classes)))
