"""Tables that know their types: Parquet, Arrow and numpy files; Arrow, pandas, polars and numpy objects in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from holdtrue_lake.forms.bad_input import BadInput, Place
from holdtrue_lake.forms.form import Form, even
from holdtrue_lake.payload import columns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdtrue_lake.payload import Columns

_SLICE = 1 << 16
_BROKEN = (pa.ArrowException, OSError, ValueError, TypeError)  # what Arrow and numpy raise for what they cannot read


class Tables(Form):
    """Any source that gives tables; `batches(skip)` yields (rows before it, table) from about row `skip` on."""

    def __init__(  # noqa: PLR0913, PLR0917  what a source consists of
        self, source: str, names: list[str], rows: int, size: int, what: str, batches: Callable[[int], Iterator[Any]]
    ) -> None:
        """Describe the source; `what` it is goes into messages."""
        super().__init__(source, names, size)
        self._rows, self._what, self._batches = rows, what, batches
        self._read = 0

    def chunks(self, skip: int, rows: int) -> Iterator[Columns]:
        """See `Form`."""
        for table in even(self._checked(skip), 0, rows):
            yield columns_of(plain(table))

    def done(self) -> int:
        """See `Form`; by rows, where their number is known."""
        return self.size * self._read // self._rows if self._rows else 0

    def _checked(self, skip: int) -> Iterator[pa.Table]:
        self._read = skip
        try:
            for first, table in self._batches(skip):
                table.validate(full=True)  # offsets that point outside their buffer would crash the process later
                kept = table.slice(max(0, skip - first))
                yield kept
                self._read += kept.num_rows
        except _BROKEN as error:
            raise BadInput.one(self.place(self._read), self._what, str(error)) from error


def plain(table: pa.Table) -> pa.Table:
    """Texts in the usual layout, which every function of Arrow can do: polars has one of its own."""
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pa.types.is_dictionary(field.type):
            chunks = [pc.take(_usual(chunk.dictionary), chunk.indices) for chunk in column.chunks]
            table = table.set_column(index, field.name, pa.chunked_array(chunks, _usual_type(field.type.value_type)))
        elif pa.types.is_string_view(field.type):
            table = table.set_column(index, field.name, _usual(column))
    return table


def _usual(texts: Any) -> Any:  # noqa: ANN401  an array, in one piece or several
    return pc.cast(texts, _usual_type(texts.type))


def _usual_type(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_string_view(kind) else kind


def parquet(path: Path) -> Tables:
    """A Parquet file; row groups before the wanted rows are not read. Raises BadInput."""
    file = _opened(path, "a Parquet file", lambda: pq.ParquetFile(path, page_checksum_verification=True))

    def batches(skip: int) -> Iterator[Any]:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        first = group = 0
        while group < len(sizes) and first + sizes[group] <= skip:
            first, group = first + sizes[group], group + 1
        for batch in file.iter_batches(_SLICE, row_groups=range(group, len(sizes))):
            yield first, pa.Table.from_batches([batch])
            first += batch.num_rows

    names, rows = file.schema_arrow.names, file.metadata.num_rows
    return Tables(str(path), names, rows, path.stat().st_size, "Parquet data", batches)


def arrow_file(path: Path) -> Tables:
    """An Arrow IPC file. Raises BadInput."""
    reader = _opened(path, "an Arrow file", lambda: pa.ipc.open_file(pa.memory_map(str(path))))

    def batches(_: int) -> Iterator[Any]:
        first = 0
        for index in range(reader.num_record_batches):
            table = pa.Table.from_batches([reader.get_batch(index)])
            yield first, table
            first += table.num_rows

    return Tables(str(path), reader.schema.names, 0, path.stat().st_size, "Arrow data", batches)


def arrow_stream(path: Path) -> Tables:
    """An Arrow IPC stream in a file. Raises BadInput."""
    reader = _opened(path, "an Arrow stream", lambda: pa.ipc.open_stream(pa.memory_map(str(path))))
    size = path.stat().st_size
    return Tables(str(path), reader.schema.names, 0, size, "Arrow data", lambda _: _numbered(reader))


def numpy_file(path: Path, names: Sequence[str]) -> Tables:
    """A .npy file with a structured array, or one with the columns in order; or a .npz file with an array a column."""
    loaded: Any = _opened(path, "numpy data", lambda: np.load(path, mmap_mode="r", allow_pickle=False))
    if isinstance(loaded, np.ndarray):
        return of_array(str(path), loaded, names, path.stat().st_size)
    with loaded:
        arrays = _opened(path, "numpy data", lambda: {name: loaded[name] for name in loaded.files})
    return of_arrays(str(path), arrays, path.stat().st_size)


def of_array(source: str, array: Any, names: Sequence[str], size: int = 0) -> Tables:  # noqa: ANN401  numpy
    """A structured array, or a matrix whose columns are those of the dataset in order. Raises BadInput."""
    if array.dtype.names:
        return of_arrays(source, {name: array[name] for name in array.dtype.names}, size)
    if array.ndim != 2 or array.shape[1] != len(names):  # noqa: PLR2004  rows and columns
        raise BadInput.one(Place(source), f"a structured array, or one of shape (rows, {len(names)})", str(array.shape))
    return of_arrays(source, {name: array[:, index] for index, name in enumerate(names)}, size)


def of_arrays(source: str, arrays: Mapping[str, Any], size: int = 0) -> Tables:
    """An array or list for each column, all of one length. Raises BadInput."""
    lengths = {name: len(array) for name, array in arrays.items()}
    rows = max(lengths.values(), default=0)
    for name, array in arrays.items():
        if getattr(array, "ndim", 1) != 1 or len(array) != rows:
            got = f"shape {array.shape}" if getattr(array, "ndim", 1) != 1 else f"{len(array)} values"
            raise BadInput.one(Place(source, column=name), f"{rows} values in a row", got)

    def cut(first: int) -> pa.Table:
        return pa.table({name: _column(source, name, array[first : first + _SLICE]) for name, array in arrays.items()})

    return Tables(source, list(arrays), rows, size, "columns of values", lambda skip: _slices(skip, rows, cut))


def of_memory(source: Any, names: Sequence[str]) -> Tables:  # noqa: ANN401  many libraries' types
    """An object that holds rows: of pandas, polars, pyarrow, numpy; a list of dicts, or a dict of columns.

    Everything that speaks Arrow's C stream is read, too. Raises BadInput.
    """
    kind = cast("type[Any]", type(source))
    if kind.__module__.split(".")[0] == "pandas":
        return _of_pandas(source)
    if kind.__module__.split(".")[0] == "polars" and hasattr(source, "collect"):
        source = source.collect()
    if isinstance(source, np.ndarray):
        return of_array("array", source, names, source.nbytes)
    if isinstance(source, Mapping):
        return of_arrays("columns", cast("Mapping[str, Any]", source))
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    if hasattr(source, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(source)
        return Tables(kind.__name__, reader.schema.names, 0, 0, "Arrow data", lambda _: _numbered(reader))
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        return _of_dicts(cast("Sequence[Any]", source), names)
    raise BadInput.one(Place("rows"), "a file or a table, as of Arrow, pandas, polars or numpy", f"a {kind.__name__}")


def _of_pandas(frame: Any) -> Tables:  # noqa: ANN401  pandas is not a dependency
    names = [str(name) for name in frame.columns]

    def cut(first: int) -> pa.Table:
        part = frame.iloc[first : first + _SLICE]
        return pa.table([_column("DataFrame", name, part.iloc[:, i]) for i, name in enumerate(names)], names)

    size = int(frame.memory_usage(index=False).sum())
    return Tables("DataFrame", names, len(frame), size, "a DataFrame", lambda skip: _slices(skip, len(frame), cut))


def _of_dicts(rows: Sequence[Any], names: Sequence[str]) -> Tables:
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise BadInput.one(Place("rows", index + 1, unit="row"), "a dict", f"a {type(row).__name__}")
    found = list(dict.fromkeys([*names, *(name for row in rows for name in row)]))
    used = [name for name in found if any(name in row for row in rows)]
    return of_arrays("rows", {name: [row.get(name) for row in rows] for name in used})


def _column(source: str, name: str, values: Any) -> pa.Array:  # noqa: ANN401  numpy, pandas or a list
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise BadInput.one(Place(source, column=name), "values of one type", str(error)) from error
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _slices(skip: int, rows: int, cut: Callable[[int], pa.Table]) -> Iterator[Any]:
    for first in range(skip - skip % _SLICE, rows, _SLICE):
        yield first, cut(first)


def _numbered(reader: Any) -> Iterator[Any]:  # noqa: ANN401  an untyped library's reader
    first = 0
    for batch in reader:
        yield first, pa.Table.from_batches([batch])
        first += batch.num_rows


def _opened(path: Path, what: str, opens: Callable[[], Any]) -> Any:  # noqa: ANN401  untyped libraries' readers
    try:
        return opens()
    except (*_BROKEN, EOFError) as error:
        raise BadInput.one(Place(str(path)), what, str(error)) from error
