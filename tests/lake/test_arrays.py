from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from holdtrue_lake.arrays import to_arrays, to_matrix, to_pandas

if TYPE_CHECKING:
    from .conftest import Lake

MIXED = pa.table(
    {
        "f": pa.array([1.5, None], pa.float32()),
        "n": pa.array([2**60 + 1, 2], pa.int64()),
        "b": pa.array([True, False]),
        "s": pa.array(["x", None]),
    }
)
HOLES = pa.table({"n": pa.array([2**60 + 1, None], pa.int64()), "b": pa.array([None, True])})


def test_a_version_becomes_arrays_of_the_declared_types(lake: Lake) -> None:
    for partition in (1, 0, 1):
        lake.append(partition=partition)

    arrays = to_arrays(lake.read([(0, 2)]))

    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "amount": "float32",
        "country": "object",
        "known": "bool",
        "fraud": "int64",
        "_commit": "int64",
        "_part": "int32",
        "_off": "int64",
        "_row": "int32",
        "_event_time": "datetime64[us]",
        "_ingest_time": "datetime64[us]",
    }
    assert arrays["amount"].tolist() == [10, 11, 1000, 1001, 1020, 1021]
    assert arrays["_ingest_time"][0] == np.datetime64("2026-03-01T12:00:00")
    assert all(array.flags.c_contiguous for array in arrays.values())


def test_nulls_are_said_and_never_become_another_type() -> None:
    arrays = to_arrays(MIXED)

    assert arrays["f"].dtype == np.float32
    assert np.isnan(arrays["f"][1])
    assert arrays["n"].tolist() == [2**60 + 1, 2]
    assert arrays["s"].tolist() == ["x", None]
    with pytest.raises(ValueError, match="column 'n' has 1 nulls, which int64 cannot hold"):
        to_arrays(HOLES)


def test_a_matrix_is_in_c_order() -> None:
    matrix = to_matrix(MIXED, ["b", "f"])

    assert matrix.flags.c_contiguous
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.array([[1, 1.5], [0, np.nan]], np.float32))
    np.testing.assert_array_equal(to_matrix(HOLES, ["b"]), np.array([[np.nan], [1]], np.float32))
    with pytest.raises(ValueError, match="column 's' is string"):
        to_matrix(MIXED, ["s"])


def test_a_frame_has_the_declared_types() -> None:
    frame, holes = to_pandas(MIXED), to_pandas(HOLES)

    assert [str(frame.dtypes[name]) for name in "fnb"] == ["float32", "int64", "bool"]
    assert [str(dtype) for dtype in holes.dtypes] == ["Int64", "boolean"]
    values = list(holes["n"])
    assert values[0] == 2**60 + 1
    assert values[1] is pd.NA
