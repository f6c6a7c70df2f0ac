from __future__ import annotations

import numpy as np
import pytest
from holdtrue_contracts.columns import MalformedColumn, pack, pack_texts, unpack, unpack_texts
from holdtrue_contracts.common.v1.columns_pb2 import Column, ElementType, TextColumn
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

TYPES = ["<f4", "<f8", "<i2", "<i4", "<i8", "u1", "<u4", "<u8"]


@given(st.sampled_from(TYPES).flatmap(lambda t: hn.arrays(t, hn.array_shapes(min_dims=1, max_dims=3, min_side=0))))
def test_arrays_come_back_bit_for_bit(array: np.ndarray) -> None:
    back = unpack(pack(array), array.dtype, array.ndim)
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_columns_are_little_endian_and_row_major_whatever_came_in() -> None:
    array = np.asfortranarray(np.array([[1, 2], [3, 4]], ">i4"))
    column = pack(array)
    assert column.data == bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])
    assert (column.dtype, list(column.shape)) == (ElementType.ELEMENT_TYPE_INT32, [2, 2])
    assert unpack(column, np.int32, 2).tolist() == array.tolist()


def test_reading_copies_nothing_and_writes_nothing() -> None:
    assert not unpack(pack(np.zeros(3)), np.float64, 1).flags.writeable


def test_other_element_types_are_refused() -> None:
    with pytest.raises(TypeError, match=r"a column holds one of float32, .*; got complex128"):
        pack(np.zeros(1, complex))


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (Column(), "element type: expected float32, got 0"),
        (pack(np.zeros(2)), "element type: expected float32, got float64"),
        (pack(np.zeros((1, 2), np.float32)), r"dimensions: expected 1, got 2 \(shape \(1, 2\)\)"),
        (Column(data=b"123", dtype=ElementType.ELEMENT_TYPE_FLOAT32, shape=[1]), "bytes: expected 4 for .*, got 3"),
        (Column(dtype=ElementType.ELEMENT_TYPE_FLOAT32, shape=[2**32 - 1]), "bytes: expected 17179869180 .*, got 0"),
    ],
)
def test_a_column_of_another_kind_is_refused_with_what_was_expected(column: Column, said: str) -> None:
    with pytest.raises(MalformedColumn, match=said):
        unpack(column, np.float32, 1)


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_texts_come_back(texts: list[str]) -> None:
    assert unpack_texts(pack_texts(texts)) == texts


def test_an_absent_text_column_has_no_texts() -> None:
    assert unpack_texts(TextColumn()) == []


def offsets(*values: int) -> bytes:
    return np.array(values, "<u4").tobytes()


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (TextColumn(data=b"ab"), "expected some for 2 bytes of text, got none"),
        (TextColumn(data=b"ab", offsets=b"\0\0\0"), "multiple of 4"),
        (TextColumn(data=b"ab", offsets=offsets(0, 1)), "rise from 0 to 2"),
        (TextColumn(data=b"ab", offsets=offsets(1, 2)), "rise from 0 to 2"),
        (TextColumn(data=b"ab", offsets=offsets(0, 2, 1, 2)), "rise from 0 to 2"),
        (TextColumn(data=b"\xff", offsets=offsets(0, 1)), "expected UTF-8"),
    ],
)
def test_broken_texts_are_refused_with_what_is_wrong(column: TextColumn, said: str) -> None:
    with pytest.raises(MalformedColumn, match=said):
        unpack_texts(column)
