"""What a request has to be, and what its caller is told where it is not: the part, what was expected, what came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from holdtrue_contracts.oip import tensors
from holdtrue_inference.domain.errors import InvalidInput
from holdtrue_inference.domain.inputs import InputReader, check_id
from holdtrue_models import Column, Signature

from tests.inference.requests import matrix, raw, tensor, typed

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_contracts.oip.inference_pb2 import ModelInferRequest
    from numpy.typing import NDArray

NAMES = ("a", "b", "c")
ONE = matrix(1, 1)[0]
READER = InputReader(Signature.binary(tuple(Column(name=name) for name in NAMES), (0, 1), threshold=0.5))
WITH_TEXT = InputReader(
    Signature.binary((Column(name="a"), Column(name="word", dtype="string")), (0, 1), threshold=0.5)
)


def refusal(request: ModelInferRequest, reader: InputReader = READER) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        reader.read(request)
    assert str(caught.value) == f"{caught.value.field}: {caught.value.description}"
    return caught.value


def columns(*arrays: NDArray[Any]) -> ModelInferRequest:
    return raw(*zip(NAMES, arrays, strict=True))


def doubled(form: Callable[..., ModelInferRequest]) -> ModelInferRequest:
    return form(("a", ONE), ("b", ONE), ("a", ONE))


@pytest.mark.parametrize(
    ("request_", "field", "texts"),
    [
        (raw(), "inputs", ["'X' [rows, 3] or 'a', 'b', 'c'", "missing: 'a', 'b', 'c'"]),
        (raw(("a", ONE), ("b", ONE)), "inputs", ["missing: 'c'", "not inputs of the model: none"]),
        (raw(("Y", matrix(1, 3))), "inputs", ["missing: 'a', 'b', 'c'", "not inputs of the model: 'Y'"]),
        (raw(*((n, ONE) for n in "abcd")), "inputs", ["missing: none", "not inputs of the model: 'd'"]),
        (raw(("X", matrix(1, 3)), ("a", ONE)), "inputs", ["not inputs of the model: 'X'"]),
        (doubled(raw), "inputs[2].name", ["'a' is there twice"]),
        (doubled(typed), "inputs[2].name", ["'a' is there twice"]),
        (raw(("X", matrix(1, 3)[0])), "inputs[0].shape", ["'X'", "expected [rows, 3]", "got [3]"]),
        (raw(("X", matrix(2, 2))), "inputs[0].shape", ["expected [rows, 3]", "got [2, 2]"]),
        (raw(("X", matrix(2, 3)[None])), "inputs[0].shape", ["expected [rows, 3]", "got [1, 2, 3]"]),
        (raw(("X", matrix(0, 3))), "inputs[0].shape", ["expected 1 to 10,000 rows", "got 0"]),
        (raw(("X", matrix(10_001, 3))), "inputs[0].shape", ["expected 1 to 10,000 rows", "got 10001"]),
        (tensor("X", "FP32", [-1, 3], b""), "inputs[0].shape", ["expected 1 to 10,000 rows", "got -1"]),
        (tensor("X", "FP32", [2**62, 3], b""), "inputs[0].shape", ["expected 1 to 10,000 rows", str(2**62)]),
        (columns(ONE, ONE, matrix(1, 2)), "inputs[2].shape", ["'c'", "expected [rows] or [rows, 1]", "got [1, 2]"]),
        (columns(ONE, ONE, np.array(1, np.float32)), "inputs[2].shape", ["expected [rows] or [rows, 1]", "got []"]),
        (columns(ONE, ONE, matrix(0, 1)), "inputs[2].shape", ["expected 1 to 10,000 rows", "got 0"]),
        (columns(ONE, ONE, matrix(2, 1)), "inputs", ["same number of rows", "got 1 in 'a' and 2 in 'c'"]),
    ],
)
def test_tensors_that_do_not_fit_the_model(request_: ModelInferRequest, field: str, texts: list[str]) -> None:
    error = refusal(request_)
    assert error.field == field
    for text in texts:
        assert text in error.description


@pytest.mark.parametrize(
    ("request_", "field", "texts"),
    [
        (tensor("X", "FP32", [1, 3], bytes(11)), "inputs[0]", ["'X'", "expected 12 bytes for FP32 [1, 3]", "got 11"]),
        (tensor("X", "FP64", [1, 3], bytes(12)), "inputs[0]", ["expected 24 bytes for FP64", "got 12"]),
        (tensor("X", "FP32", [1, 3]), "inputs[0]", ["'X'", "expected 3 elements for [1, 3]", "got 0"]),
        (tensor("X", "FP32", [1, 3], fp32_contents=[1, 2]), "inputs[0]", ["expected 3 elements", "got 2"]),
        (tensor("X", "FP32", [1, 3], fp64_contents=[1, 2, 3]), "inputs[0]", ["fp32_contents", "got fp64_contents"]),
        (
            tensor("X", "UINT8", [1, 3], uint_contents=[1, 2, 256]),
            "inputs[0]",
            ["expected elements that fit UINT8, got 256"],
        ),
        (
            tensor("X", "INT16", [1, 3], int_contents=[1, 2, -32769]),
            "inputs[0]",
            ["expected elements that fit INT16, got -32769"],
        ),
        (tensor("X", "FP16", [1, 3], fp32_contents=[1, 2, 3]), "inputs[0]", ["'FP16'", "raw_input_contents"]),
        (tensor("X", "BF16", [1, 3], bytes(6)), "inputs[0].datatype", ["'X'", "expected FP32", "got 'BF16'"]),
        (tensor("X", "", [1, 3], bytes(12)), "inputs[0].datatype", ["expected FP32", "got ''"]),
        (raw(("X", np.array([["1", "2", "3"]]))), "inputs[0].datatype", ["expected FP32", "got 'BYTES'"]),
        (
            tensor("X", "FP32", [1, 3], bytes(12), fp32_contents=[1, 2, 3]),
            "inputs[0].contents",
            ["expected raw or typed", "got both"],
        ),
    ],
)
def test_elements_that_do_not_fit_their_tensor(request_: ModelInferRequest, field: str, texts: list[str]) -> None:
    error = refusal(request_)
    assert error.field == field
    for text in texts:
        assert text in error.description


def test_raw_contents_are_one_for_each_input() -> None:
    request = columns(ONE, ONE, ONE)
    del request.raw_input_contents[2]
    error = refusal(request)
    assert (error.field, error.description) == ("raw_input_contents", "expected one for each of 3 inputs, got 2")


def test_typed_and_raw_are_not_mixed_over_inputs() -> None:
    request = columns(ONE, ONE, ONE)
    request.inputs[1].contents.fp32_contents.append(1)
    error = refusal(request)
    assert (error.field, error.description) == (
        "inputs[1].contents",
        "expected raw or typed elements, got both; send one form",
    )


@pytest.mark.parametrize("value", [1e39, -3.5e38])
@pytest.mark.parametrize("form", [raw, typed])
def test_a_number_beyond_fp32_is_refused_not_made_infinite(
    value: float, form: Callable[..., ModelInferRequest]
) -> None:
    error = refusal(form(("X", np.array([[0, 0, 0], [0, value, 0]], np.float64))))
    assert error.field == "inputs[0]"
    assert f"input 'X': expected numbers that fit FP32, got {value}" in error.description


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_not_finite_is_refused_with_its_place(value: float, dtype: type) -> None:
    x = np.zeros((4, 3), dtype)
    x[2, 1] = value
    for request in (raw(("X", x)), raw(*((name, x[:, i]) for i, name in enumerate(NAMES)))):
        error = refusal(request)
        assert (error.field, error.metadata) == ("inputs", {"row": "2"})
        assert f"row 2, column 'b': expected a finite number, got {value}" in error.description


@pytest.mark.parametrize("datatype", sorted(tensors.DATATYPES))
def test_every_number_is_cast(datatype: str) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]]) if datatype == "BOOL" else np.array([[0, 1, 2], [100, 127, 3]])
    x = values.astype(tensors.DATATYPES[datatype])
    rows = READER.read(raw(("X", x)))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, values)


def test_integers_are_rounded_to_the_nearest_float() -> None:
    rows = READER.read(raw(("X", np.array([[2**24 + 1, -(2**63), 2**62 + 1]]))))
    assert rows.tolist() == [[2**24, -(2**63), 2**62]]


def test_columns_come_in_any_order_and_shape_and_datatype() -> None:
    rows = READER.read(
        raw(("c", np.array([5, 6], np.int64)), ("a", np.array([[1.5], [2.5]])), ("b", np.array([3, 4], np.float16)))
    )
    assert rows.tolist() == [[1.5, 3, 5], [2.5, 4, 6]]


def test_most_and_fewest_rows() -> None:
    assert READER.read(raw(("X", matrix(1, 3)))).shape == (1, 3)
    assert READER.read(raw(("X", matrix(10_000, 3)))).shape == (10_000, 3)


def test_a_model_with_text_takes_no_matrix() -> None:
    error = refusal(raw(("X", matrix(1, 2))), WITH_TEXT)
    assert error.field == "inputs[0].name"
    assert error.description == "expected one input for each column, 'a', 'word', got 'X'"


def test_a_column_of_that_name_is_no_matrix() -> None:
    reader = InputReader(Signature.binary((Column(name="X"), Column(name="y")), (0, 1), threshold=0.5))
    assert reader.read(raw(("y", ONE), ("X", 2 * ONE))).tolist() == [[1.0, 0.5]]


@pytest.mark.parametrize("text", ["", "order 7", "~" * 128])
def test_ids_that_are_taken(text: str) -> None:
    check_id(raw(id=text))


@pytest.mark.parametrize("text", ["x" * 129, "naïve", "a\nb", "\x7f", "\0"])
def test_ids_that_are_not(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected at most 128 printable ASCII characters") as caught:
        check_id(raw(id=text))
    assert caught.value.field == "id"
    assert repr(text[:129]) in caught.value.description


def test_a_refusal_is_short_however_long_the_request() -> None:
    """It travels in headers, which every client limits."""
    names = [f"column number {i}" for i in range(1_000)]
    reader = InputReader(Signature.binary(tuple(Column(name=name) for name in names), (0, 1), threshold=0.5))
    unequal = raw(*((name, matrix(1 + (name == names[-1]), 1)) for name in names))
    for request in (
        unequal,
        raw(("X" * 100_000, ONE)),
        tensor("X", "FP32", [1] * 10_000, b""),
        tensor("X", "D" * 100_000, [1, 1_000], b""),
    ):
        assert len(str(refusal(request, reader))) <= 1_100
