"""Tensors on the wire: both forms hold the same elements, and nothing that does not fit is bent until it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from holdtrue_contracts.oip import tensors
from holdtrue_contracts.oip.inference_pb2 import InferTensorContents
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

SHAPES = [(0,), (3,), (2, 3), (1, 1, 4)]


@given(st.data(), st.sampled_from(sorted(tensors.DATATYPES)), st.sampled_from(SHAPES))
def test_numbers_survive_both_forms(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    array = data.draw(arrays.arrays(tensors.DATATYPES[datatype], shape))
    assert tensors.datatype_of(array) == datatype
    np.testing.assert_array_equal(tensors.from_raw(datatype, shape, tensors.to_raw(array)), array)
    if datatype != "FP16":
        contents = InferTensorContents()
        tensors.fill_contents(contents, array)
        read = tensors.from_contents(datatype, shape, contents)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


@given(st.lists(st.text(max_size=5), max_size=4))
def test_text_survives_both_forms(texts: list[str]) -> None:
    array = np.array(texts, object)
    contents = InferTensorContents()
    tensors.fill_contents(contents, array)
    expected = [text.encode() for text in texts]
    assert tensors.from_raw("BYTES", array.shape, tensors.to_raw(array)).tolist() == expected
    assert tensors.from_contents("BYTES", array.shape, contents).tolist() == expected


@pytest.mark.parametrize(
    ("datatype", "field", "value"),
    [
        ("UINT8", "uint_contents", 256),
        ("UINT16", "uint_contents", 65_536),
        ("INT8", "int_contents", 128),
        ("INT8", "int_contents", -129),
        ("INT16", "int_contents", 32_768),
    ],
)
def test_an_integer_that_does_not_fit_is_refused(datatype: str, field: str, value: int) -> None:
    contents = InferTensorContents()
    getattr(contents, field).extend([1, value])
    with pytest.raises(tensors.MalformedTensor, match=rf"expected elements that fit {datatype}, got {value}"):
        tensors.from_contents(datatype, [2], contents)


@pytest.mark.parametrize("data", [b"\1\0\0", b"\1\0\0\0", b"\2\0\0\0a", b"\1\0\0\0ab", b"\0\0\0\0\0\0\0\0", b""])
def test_bytes_that_are_not_one_text_are_refused(data: bytes) -> None:
    with pytest.raises(tensors.MalformedTensor, match="BYTES"):
        tensors.from_raw("BYTES", [1], data)


@pytest.mark.parametrize("shape", [[-1], [2, -1], [2**62, 4]])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_impossible_shapes_are_refused(shape: list[int], datatype: str) -> None:
    for read in (
        lambda: tensors.from_raw(datatype, shape, bytes(8)),
        lambda: tensors.from_contents(datatype, shape, InferTensorContents()),
    ):
        with pytest.raises(tensors.MalformedTensor):
            read()


@pytest.mark.parametrize("array", [np.zeros(1, np.complex64), np.zeros(1, "M8[s]")])
def test_what_the_protocol_has_no_datatype_for(array: Any) -> None:
    with pytest.raises(tensors.MalformedTensor, match=f"no datatype for {array.dtype}".replace("[", r"\[")):
        tensors.datatype_of(array)
