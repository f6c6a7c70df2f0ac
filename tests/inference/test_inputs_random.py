"""Whatever comes: the same rows in either form, or InvalidInput and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError
from holdtrue_contracts.oip import inference_pb2 as oip
from holdtrue_contracts.oip import tensors
from holdtrue_inference.domain.errors import InvalidInput
from holdtrue_inference.domain.inputs import MAX_ROWS, InputReader
from holdtrue_models import Column, Signature
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.inference.requests import CONTENTS, matrix, raw, typed

if TYPE_CHECKING:
    from random import Random

    from numpy.typing import NDArray

NAMES = ("a", "b", "c")
READER = InputReader(Signature.binary(tuple(Column(name=name) for name in NAMES), (0, 1), threshold=0.5))
TYPED = {name: dtype for name, dtype in tensors.DATATYPES.items() if name in CONTENTS}

Outcome = list[list[float]] | tuple[str, str]


def outcome(request: oip.ModelInferRequest) -> Outcome:
    """The rows, or the refusal. Anything else that is raised fails the test."""
    try:
        rows = READER.read(request)
    except InvalidInput as refusal:
        return refusal.field, refusal.description
    assert rows.dtype == np.float32
    assert rows.ndim == 2
    assert 1 <= len(rows) <= MAX_ROWS
    assert rows.shape[1] == len(NAMES)
    assert np.isfinite(rows).all()
    return rows.tolist()


@given(st.data(), st.sampled_from(sorted(TYPED)), st.integers(1, 5))
def test_a_matrix_gives_equal_rows_in_either_form(data: st.DataObject, datatype: str, rows: int) -> None:
    x = data.draw(arrays.arrays(TYPED[datatype], (rows, len(NAMES))))
    expected = outcome(raw(("X", x)))
    assert outcome(typed(("X", x))) == expected
    with np.errstate(over="ignore"):
        cast = x.astype(np.float32)
    if np.isfinite(cast).all():
        assert expected == cast.tolist()
    else:
        assert expected[0] in ("inputs", "inputs[0]")


@given(st.data(), st.integers(1, 5), st.permutations(NAMES))
def test_columns_give_equal_rows_in_either_form(data: st.DataObject, rows: int, order: list[str]) -> None:
    columns: dict[str, NDArray[Any]] = {}
    for name in NAMES:
        dtype = TYPED[data.draw(st.sampled_from(sorted(TYPED)))]
        shape = data.draw(st.sampled_from([(rows,), (rows, 1)]))
        columns[name] = data.draw(arrays.arrays(dtype, shape))
    inputs = [(name, columns[name]) for name in order]
    expected = outcome(raw(*inputs))
    assert outcome(typed(*inputs)) == expected
    with np.errstate(over="ignore"):
        cast = np.stack([columns[name].astype(np.float32).ravel() for name in NAMES], axis=1)
    assert (expected == cast.tolist()) == bool(np.isfinite(cast).all())


ELEMENTS: dict[str, list[Any]] = {
    "bool_contents": [True, False, True],
    "int_contents": [0, 127, -(2**31)],
    "int64_contents": [0, 2**63 - 1, -(2**63)],
    "uint_contents": [0, 255, 2**32 - 1],
    "uint64_contents": [0, 1, 2**64 - 1],
    "fp32_contents": [0.5, -3.4e38, 1e-45],
    "fp64_contents": [0.5, 1e308, float("inf")],
    "bytes_contents": [b"", b"a", b"3"],
}
INPUTS = [[*NAMES], [], ["X", "X"], ["a", "b"], ["b", "a", "c", "é"], ["X", *NAMES]]
SHAPES = [[3], [], [0, 3], [-1, 3], [3, 1], [10_001, 3], [2**62, 2**62], [2**63 - 1], [-(2**63)], [1] * 9]
RAW = [bytes(4), bytes(24), b"", bytes(7), b"\xff" * 12]


def usually(chance: Random, usual: Any, others: list[Any]) -> Any:
    return usual if chance.random() < 0.8 else chance.choice(others)


def any_request(chance: Random) -> oip.ModelInferRequest:
    """Nearly a request: each part of it may be any other."""
    request = oip.ModelInferRequest()
    is_raw = chance.random() < 0.5
    for name in usually(chance, ["X"], INPUTS):
        count = 3 if name == "X" else 1
        datatype = usually(chance, "FP32", [*tensors.DATATYPES, "BYTES", "BF16", "", "fp32"])
        tensor = request.inputs.add(
            name=name, datatype=datatype, shape=usually(chance, [1, 3] if name == "X" else [1], SHAPES)
        )
        if not is_raw or chance.random() < 0.1:
            field = usually(chance, CONTENTS.get(datatype, "fp32_contents"), sorted(ELEMENTS))
            getattr(tensor.contents, field).extend(ELEMENTS[field][:count])
        if is_raw:
            request.raw_input_contents.append(usually(chance, bytes(4 * count), RAW))
    return request


@settings(max_examples=400)
@given(st.randoms(use_true_random=False))
def test_any_message_is_read_or_refused(chance: Random) -> None:
    event("refused" if isinstance(outcome(any_request(chance)), tuple) else "read")


_VALID = [
    form(*inputs).SerializeToString()
    for form in (raw, typed)
    for inputs in ([("X", matrix(2, 3))], [(name, matrix(2, 1)) for name in NAMES])
]


@given(st.sampled_from(_VALID), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=2))
def test_any_bytes_near_a_request_are_read_or_refused(valid: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(valid)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    try:
        request = oip.ModelInferRequest.FromString(bytes(damaged))
    except DecodeError:
        event("no message")
        return
    event("refused" if isinstance(outcome(request), tuple) else "read")


def test_the_valid_ones_are_read() -> None:
    """Otherwise the tests above would say nothing."""
    for valid in _VALID:
        assert outcome(oip.ModelInferRequest.FromString(valid)) == matrix(2, 3).tolist()
