"""Bytes of a batch → typed Arrow columns, with a mask of the values that do not fit.

Two encodings come in (Arrow IPC stream, JSON lines); both end as the same `Columns`, so that the rules of
`validation.py` are written once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from holdtrue_lake.faults import Code, Fault, shown
from holdtrue_lake.views import one_array, true

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]

MOST_ROWS = 5_000_000
MOST_BYTES = 1 << 30
"""Decoded size of one payload, at most."""

KINDS = {"float32": "a number", "int64": "a whole number", "string": "a text", "bool": "true or false"}
"""What a value of each dtype is called in messages."""


class Unreadable(Exception):
    """The payload as a whole cannot be decoded."""

    def __init__(self, code: Code, expected: str, got: str) -> None:
        """Keep what a `Fault` needs."""
        super().__init__(f"expected {expected}, got {got}")
        self.code, self.expected, self.got = code, expected, got


@dataclass(frozen=True)
class Columns:
    """A decoded payload of `rows` records.

    `typed(name, dtype)` gives the column as (Arrow array of the dtype, mask of values of another type); both null and
    absent values are null in it. `plain(name)` is the column as it came, `present(name)` the mask of the records that
    have it, `raw(row)` the record's own bytes. `faults` are those that decoding found.
    """

    rows: int
    names: frozenset[str]
    present: Callable[[str], Mask]
    typed: Callable[[str, str], tuple[pa.Array, Mask]]
    plain: Callable[[str], pa.ChunkedArray | list[Any]]
    raw: Callable[[int], bytes]
    faults: list[Fault] = field(default_factory=list[Fault])

    def original(self, name: str, row: int) -> object:
        """Return the value as it came; None if absent."""
        if name not in self.names:
            return None
        value = self.plain(name)[row]
        return value.as_py() if isinstance(value, pa.Scalar) else value


# --- Arrow ---------------------------------------------------------------------------------------------------------


def read_arrow(payload: bytes) -> Columns:
    """Decode an Arrow IPC stream. Raises Unreadable."""
    table = _read_stream(payload)
    if len(set(table.column_names)) < table.num_columns:
        twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
        raise Unreadable(Code.MALFORMED, "every column once", f"several columns called {', '.join(twice)}")
    return columns_of(table)


def columns_of(table: pa.Table) -> Columns:
    """Columns of a table with names that differ; a record's own bytes are an Arrow IPC stream of one row."""

    def typed(name: str, dtype: str) -> tuple[pa.Array, Mask]:
        return fitted(one_array(table.column(name)), dtype)

    def raw(row: int) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.slice(row, 1))
        return sink.getvalue().to_pybytes()

    everywhere = np.ones(table.num_rows, np.bool_)
    return Columns(table.num_rows, frozenset(table.column_names), lambda _: everywhere, typed, table.column, raw)


def _read_stream(payload: bytes) -> pa.Table:
    try:
        with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
            batches: list[pa.RecordBatch] = []
            rows = size = 0
            for batch in reader:
                rows, size = rows + batch.num_rows, size + batch.nbytes
                if rows > MOST_ROWS or size > MOST_BYTES:
                    limit = f"at most {MOST_ROWS} rows and {MOST_BYTES} bytes in one batch"
                    raise Unreadable(Code.TOO_LARGE, limit, f"{rows} rows and {size} bytes; send smaller batches")
                batches.append(batch)
            table = pa.Table.from_batches(batches, reader.schema)
        table.validate(full=True)  # offsets that point outside their buffer would crash the process later
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(Code.MALFORMED, "an Arrow IPC stream", shown(str(error))) from error
    return table


def fitted(array: pa.Array, dtype: str) -> tuple[pa.Array, Mask]:
    """Return the column as `WORKING[dtype]`, and the mask of values of another type, which are null in it."""
    fits = np.zeros(len(array), np.bool_)
    if dtype == "float32" and _is_number(array.type):
        return pc.cast(array, pa.float64(), safe=False), fits
    if dtype == "int64" and pa.types.is_floating(array.type):
        return _whole(array)
    if dtype == "int64" and pa.types.is_integer(array.type):
        wrong = true(pc.greater(array, np.iinfo(np.int64).max)) if array.type == pa.uint64() else fits
        return pc.cast(array, pa.int64(), safe=False), wrong
    if dtype == "string" and (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return pc.cast(array, pa.string()), fits
    if dtype == "bool" and pa.types.is_boolean(array.type):
        return array, fits
    return pa.nulls(len(array), WORKING[dtype]), true(array.is_valid())


def _whole(array: pa.Array) -> tuple[pa.Array, Mask]:
    """Floats as whole numbers: a column with an empty cell came out of pandas as float."""
    values = pc.cast(array, pa.float64())
    in_range = pc.and_kleene(pc.greater_equal(values, -(2.0**63)), pc.less(values, 2.0**63))
    fits = pc.and_kleene(pc.equal(pc.floor(values), values), in_range)
    whole = pc.if_else(fits, values, None)
    return pc.cast(whole, pa.int64(), safe=False), true(pc.invert(fits))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)


WORKING = {"float32": pa.float64(), "int64": pa.int64(), "string": pa.string(), "bool": pa.bool_()}
"""Types while values are checked: float64, so that a value too large for float32 is seen."""


# --- JSON lines ----------------------------------------------------------------------------------------------------


def read_json_lines(payload: bytes) -> Columns:
    """Decode one JSON object a line; blank lines do not count. A broken line is a fault of its row only."""
    lines = [line for line in payload.split(b"\n") if line.strip()]
    if len(lines) > MOST_ROWS:
        raise Unreadable(
            Code.TOO_LARGE, f"at most {MOST_ROWS} rows in one batch", f"{len(lines)}; send smaller batches"
        )
    faults: list[Fault] = []
    records = [_record(row, line, faults) for row, line in enumerate(lines)]
    names = frozenset(name for record in records for name in record)

    def present(name: str) -> Mask:
        return np.fromiter((name in record for record in records), np.bool_, len(records))

    def plain(name: str) -> list[Any]:
        return [record.get(name) for record in records]

    def typed(name: str, dtype: str) -> tuple[pa.Array, Mask]:
        return _typed(plain(name), dtype)

    return Columns(len(lines), names, present, typed, plain, lambda row: lines[row], faults)


def _record(row: int, line: bytes, faults: list[Fault]) -> Mapping[str, Any]:
    try:
        record: Any = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        faults.append(Fault(row, Code.MALFORMED, "", "one JSON object a line", str(error)))
        return {}
    if not isinstance(record, dict):
        faults.append(Fault(row, Code.MALFORMED, "", "one JSON object a line", f"a JSON {type(record).__name__}"))
        return {}
    return cast("dict[str, Any]", record)


def _is_int64(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_whole(value: object) -> bool:
    return type(value) is float and value.is_integer() and -(2.0**63) <= value < 2.0**63


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "float32": lambda value: type(value) is float or _is_int64(value),
    "int64": lambda value: _is_int64(value) or _is_whole(value),
    "string": lambda value: type(value) is str,
    "bool": lambda value: type(value) is bool,
}


def _typed(values: list[Any], dtype: str) -> tuple[pa.Array, Mask]:
    fits = _FITS[dtype]
    wrong = np.fromiter((value is not None and not fits(value) for value in values), np.bool_, len(values))
    kept = [None if bad else value for value, bad in zip(values, wrong.tolist(), strict=True)]
    if dtype == "float32":  # Arrow refuses whole numbers that float64 has to round
        kept = [None if value is None else float(value) for value in kept]
    return pa.array(kept, WORKING[dtype]), wrong
