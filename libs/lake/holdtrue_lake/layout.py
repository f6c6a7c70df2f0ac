"""What of a dataset's columns is counted, and in which bins: chosen once, so that profiles can be added up."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from holdtrue_stats.histogram import Edges, freeze
from holdtrue_stats.packing import PackingError, pack, unpack

from holdtrue_lake.schema import LAKE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Kind = Literal["number", "category", "counted"]
MOST_CLASSES = 16
MOST_CELLS = 100_000
"""Columns × classes, at most, for which figures are kept by class of the label."""
SAMPLE = 100_000
"""Rows of the reference that bins are chosen on, at most; spread evenly."""
_LAKE = {each.name for each in LAKE_FIELDS} | {"_subject"}


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Columns with their kinds and Arrow types, bins of the `number` columns, the label and its classes.

    Of `counted` columns (personal ones, and types without an order) only rows and missing values are counted. `key`
    makes the hashes of categories meaningless to whoever does not have it; it is never part of the bytes.
    """

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    types: tuple[str, ...]
    edges: Edges
    label: str = ""
    classes: tuple[Any, ...] = ()
    key: bytes = b""
    key_id: str = field(default="", kw_only=True)

    @classmethod
    def of(
        cls,
        sample: pa.Table,
        *,
        label: str = "",
        pii: Collection[str] = (),
        key: bytes = b"",
        bins: int = 64,
    ) -> Self:
        """Choose the bins on a reference sample, and the label's classes where it has at most 16.

        Columns of the lake are left out. Raises ValueError where names do not fit the sample.
        """
        _check(sample, label, pii, key)
        names = tuple(name for name in sample.column_names if name not in _LAKE)
        fields = [sample.schema.field(name) for name in names]
        kinds: tuple[Kind, ...] = tuple("counted" if each.name in pii else _kind(each.type) for each in fields)
        step = max(1, -(-sample.num_rows // SAMPLE))
        rows = sample.take(pa.array(range(0, sample.num_rows, step), pa.int64())) if step > 1 else sample
        edges = _edges((rows.column(n) for n, kind in zip(names, kinds, strict=True) if kind == "number"), bins)
        classes = _classes(rows.column(label)) if label and label not in pii else ()
        if len(names) * (len(classes) + 1) > MOST_CELLS:
            classes = ()
        types = tuple(str(each.type) for each in fields)
        return cls(names, kinds, types, edges, label, classes, key, key_id=_key_id(key))

    @property
    def groups(self) -> int:
        """Number of the label's classes, and one for rows of none of them."""
        return len(self.classes) + 1

    def of_kind(self, kind: Kind) -> list[str]:
        """Return the names of the columns of a kind, in order."""
        return [name for name, each in zip(self.names, self.kinds, strict=True) if each == kind]

    def to_bytes(self) -> bytes:
        """Return the layout as checked bytes, without the key."""
        arrays = {name: getattr(self.edges, name) for name in ("edges", "counts", "center", "inv_scale")}
        columns = list(zip(self.names, self.kinds, self.types, strict=True))
        meta = {"columns": columns, "label": self.label, "classes": self.classes, "key_id": self.key_id}
        return pack("layout", arrays, meta)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises PackingError."""
        arrays, meta = unpack("layout", data)
        try:
            names, kinds, types = zip(*meta["columns"], strict=True) if meta["columns"] else ((), (), ())
            edges = Edges(**cast("dict[str, Any]", arrays), kinds=("numeric",) * len(arrays["counts"]))
            layout = cls(names, kinds, types, edges, meta["label"], tuple(meta["classes"]), key_id=meta["key_id"])
        except (TypeError, KeyError, ValueError) as error:
            raise PackingError(f"these are not the arrays of a layout: {error}") from error
        if kinds.count("number") != edges.features:
            raise PackingError(f"a layout of {kinds.count('number')} columns of numbers has bins for {edges.features}")
        return layout

    def with_key(self, key: bytes) -> Self:
        """Return the same with the key that the bytes do not hold. Raises ValueError for another one than it had."""
        if key and _key_id(key) != self.key_id:
            raise ValueError("key: this is not the key that the layout was made with")
        return replace(self, key=key)

    def equals(self, other: Layout) -> bool:
        """Tell whether profiles of both add up."""
        return self is other or self.digest() == other.digest()

    def digest(self) -> str:
        """sha256 of the bytes, hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def number_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which numbers, truth values and times are counted: float32, float64 or int64."""
    if kind in {pa.float32(), pa.float16()}:
        return pa.float32()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or kind == pa.uint64():
        return pa.float64()
    return pa.int64()


def plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values: dictionary encoding is how they lie in memory, not what they mean."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a `number` column in its `number_type`; times become whole numbers of their unit."""
    kind = plain(column.type)
    values = column if kind == column.type else column.cast(kind)
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        values = values.cast(pa.int32())
    return values if values.type == number_type(kind) else values.cast(number_type(kind), safe=False)


def _check(sample: pa.Table, label: str, pii: Collection[str], key: bytes) -> None:
    names = sample.column_names
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"the sample has several columns called {', '.join(twice)}; rename them")
    unknown = sorted({*pii, *([label] if label else [])} - set(names))
    if unknown:
        raise ValueError(f"the sample has no column {', '.join(map(repr, unknown))}; it has {', '.join(names[:20])}")
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        raise ValueError(f"key: at most {hashlib.blake2b.MAX_KEY_SIZE} bytes, got {len(key)}")


def _key_id(key: bytes) -> str:
    return hashlib.blake2b(b"which key", digest_size=8, key=key).hexdigest() if key else ""


def _kind(kind: pa.DataType) -> Kind:
    kind = plain(kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "category"
    number = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_boolean)
    timed = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_time)
    return "number" if any(test(kind) for test in (*number, *timed)) else "counted"


def _edges(columns: Iterable[pa.ChunkedArray], bins: int) -> Edges:
    """Freeze column by column: a matrix of 10,000 columns would not fit."""
    parts = [freeze(_floats(column), bins) for column in columns] or [freeze(np.zeros((0, 0)), bins)]
    arrays = {n: np.concatenate([getattr(p, n) for p in parts]) for n in ("edges", "counts", "center", "inv_scale")}
    return Edges(**cast("dict[str, Any]", arrays), kinds=tuple(kind for part in parts for kind in part.kinds))


def _floats(column: pa.ChunkedArray) -> Any:  # noqa: ANN401 - numpy
    values = as_numbers(column).cast(pa.float64(), safe=False).to_numpy()
    with np.errstate(over="ignore"):  # beyond float32 is infinite there, and counted as above all bins
        return np.asarray(values, np.float32)[:, None]


def _classes(column: pa.ChunkedArray) -> tuple[Any, ...]:
    """Return the label's values in order, none where they are many or not whole numbers, texts or truth values."""
    kind = plain(column.type)
    found = pc.unique(column.cast(kind)).drop_null()
    if len(found) > MOST_CLASSES:
        return ()
    values: list[Any] = found.to_pylist()
    if pa.types.is_floating(kind):
        return tuple(sorted(values)) if all(value == value // 1 for value in values) else ()
    named = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return tuple(sorted(values)) if named or pa.types.is_integer(kind) or pa.types.is_boolean(kind) else ()
