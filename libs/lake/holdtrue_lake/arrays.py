"""A version's rows as numpy arrays and pandas frames, with the types that its columns declare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray


def to_arrays(rows: pa.Table) -> dict[str, NDArray[Any]]:
    """One contiguous array a column: its declared type, text as objects, times as datetime64[us] in UTC.

    A null is NaN among floats, NaT among times and None in text; raises ValueError where a column of whole numbers or
    truth values has one, because no such array can hold it.
    """
    return {name: _array(name, rows.column(name)) for name in rows.column_names}


def to_matrix(rows: pa.Table, columns: Sequence[str], dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
    """Columns side by side as floats in C order; nulls are NaN. Raises ValueError where a column is no number."""
    matrix = np.empty((rows.num_rows, len(columns)), dtype)
    for index, name in enumerate(columns):
        column = rows.column(name)
        if not (
            pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
        ):
            raise ValueError(f"column {name!r} is {column.type}: only numbers and truth values fit into a matrix")
        exact = pa.float32() if pa.types.is_boolean(column.type) else pa.float64()
        values = column if pa.types.is_floating(column.type) else column.cast(exact, safe=False)
        matrix[:, index] = values.to_numpy()
    return matrix


def to_pandas(rows: pa.Table) -> pd.DataFrame:
    """A frame with the declared types; whole numbers and truth values become pandas' nullable types where one is null.

    Needs pandas, which is not among this package's requirements.
    """
    import pandas as pd  # noqa: PLC0415  see above

    nullable = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype(), pa.bool_(): pd.BooleanDtype()}
    plain = [name for name in rows.column_names if not rows.column(name).null_count]
    frame = rows.to_pandas(types_mapper=nullable.get)
    exact = {name: str(rows.schema.field(name).type) for name in plain if rows.schema.field(name).type in nullable}
    return frame.astype(exact)


def _array(name: str, column: pa.ChunkedArray) -> NDArray[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp(kind.unit))
    elif column.null_count and not (pa.types.is_floating(kind) or pa.types.is_string(kind)):
        raise ValueError(f"column {name!r} has {column.null_count} nulls, which {kind} cannot hold: drop or fill them")
    return np.ascontiguousarray(column.to_numpy())
