"""What a request says: rows for the model, or exactly what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from holdtrue_contracts.oip import tensors
from numpy.typing import NDArray

from holdtrue_inference.domain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_contracts.oip.inference_pb2 import ModelInferRequest
    from holdtrue_models.signature import Signature

MATRIX = "X"
"""Name of the one input that holds all columns of a model whose columns are all numbers."""
MAX_ROWS = 10_000
MAX_ID = 128

_NUMERIC = frozenset(tensors.DATATYPES)
_VECTOR, _MATRIX = 1, 2
_FALSE = b"\0"

Rows = NDArray[np.float32]


class InputReader:
    """Reads the requests of one model."""

    def __init__(self, signature: Signature) -> None:
        """Take what the model takes."""
        self._names = signature.names
        self._numeric = signature.numeric
        self._width = len(signature.columns)

    def read(self, request: ModelInferRequest) -> Rows:
        """The rows, float32 [n, columns] in the signature's order, 1 to 10,000 of them, all finite.

        Raises InvalidInput that names the part of the request, what was expected and what came.
        """
        inputs = request.inputs
        raw = request.raw_input_contents
        if raw and len(raw) != len(inputs):
            raise InvalidInput("raw_input_contents", f"expected one for each of {len(inputs)} inputs, got {len(raw)}")
        rows = self._matrix(request) if len(inputs) == 1 and inputs[0].name == MATRIX else self._columns(request)
        if _FALSE in np.isfinite(rows).tobytes():  # for a single row twice as fast as all()
            self._refuse_not_finite(rows)
        return rows

    def _matrix(self, request: ModelInferRequest) -> Rows:
        tensor = request.inputs[0]
        shape = tensor.shape
        width = self._width
        if not self._numeric:
            raise InvalidInput(
                "inputs[0].name", f"expected one input for each column, {self._expected()}, got {MATRIX!r}"
            )
        if len(shape) != _MATRIX or shape[1] != width:
            raise InvalidInput("inputs[0].shape", f"input {MATRIX!r}: expected [rows, {width}], got {list(shape)}")
        _check_rows(shape[0], 0)
        return _float32(request, 0)

    def _columns(self, request: ModelInferRequest) -> Rows:
        places = self._places(request)
        arrays = [_column(request, places[name]) for name in self._names]
        first = len(arrays[0])
        for name, array in zip(self._names, arrays, strict=True):
            if len(array) != first:
                raise InvalidInput(
                    "inputs",
                    f"expected the same number of rows in every column, got {first} in {self._names[0]!r} and "
                    f"{len(array)} in {name!r}",
                )
        return np.stack(arrays, axis=1)

    def _places(self, request: ModelInferRequest) -> dict[str, int]:
        """Where each column is in the request."""
        places: dict[str, int] = {}
        for index, tensor in enumerate(request.inputs):
            if tensor.name in places:
                raise InvalidInput(
                    f"inputs[{index}].name", f"input {tensor.name!r} is there twice; send every one once"
                )
            places[tensor.name] = index
        wanted = set(self._names)
        missing = [name for name in self._names if name not in places]
        extra = [name for name in places if name not in wanted]
        if missing or extra:
            raise InvalidInput(
                "inputs",
                f"expected {self._expected()}; missing: {_list(missing)}; not inputs of the model: {_list(extra)}",
            )
        return places

    def _expected(self) -> str:
        return (f"{MATRIX!r} [rows, {self._width}] or " if self._numeric else "") + _list(self._names)

    def _refuse_not_finite(self, rows: Rows) -> None:
        row, column = (int(index) for index in np.argwhere(~np.isfinite(rows))[0])
        raise InvalidInput(
            "inputs",
            f"row {row}, column {self._names[column]!r}: expected a finite number, got {rows[row, column]}; "
            f"the model knows no missing values, so fill them in as it was trained",
            row,
        )


def check_id(request: ModelInferRequest) -> None:
    """Raise InvalidInput unless the caller's id is at most 128 printable ASCII characters."""
    text = request.id
    if len(text) > MAX_ID or not (text.isascii() and text.isprintable()):
        raise InvalidInput("id", f"expected at most {MAX_ID} printable ASCII characters, got {text[: MAX_ID + 1]!r}")


def _column(request: ModelInferRequest, index: int) -> Rows:
    tensor = request.inputs[index]
    shape = tensor.shape
    if len(shape) not in (_VECTOR, _MATRIX) or list(shape[1:]) not in ([], [1]):
        raise InvalidInput(
            f"inputs[{index}].shape", f"input {tensor.name!r}: expected [rows] or [rows, 1], got {list(shape)}"
        )
    _check_rows(shape[0], index)
    return _float32(request, index).ravel()


def _check_rows(rows: int, index: int) -> None:
    if not 1 <= rows <= MAX_ROWS:
        raise InvalidInput(f"inputs[{index}].shape", f"expected 1 to {MAX_ROWS:,} rows, got {rows}; split the request")


def _elements(request: ModelInferRequest, index: int) -> NDArray[Any]:
    tensor = request.inputs[index]
    datatype = tensor.datatype
    if datatype not in _NUMERIC:
        raise InvalidInput(
            f"inputs[{index}].datatype", f"input {tensor.name!r}: expected FP32 or another number, got {datatype!r}"
        )
    raw = request.raw_input_contents
    try:
        if not raw:
            return tensors.from_contents(datatype, tensor.shape, tensor.contents)
        if tensor.HasField("contents"):
            raise InvalidInput(f"inputs[{index}].contents", "expected raw or typed elements, got both; send one form")
        return tensors.from_raw(datatype, tensor.shape, raw[index])
    except tensors.MalformedTensor as error:
        raise InvalidInput(f"inputs[{index}]", f"input {tensor.name!r}: {error}") from error


def _float32(request: ModelInferRequest, index: int) -> Rows:
    """An input as float32, rounded to the nearest; a number beyond its range is refused, not made infinite."""
    array = _elements(request, index)
    if array.dtype == np.float32:
        return array
    with np.errstate(over="ignore"):
        cast = array.astype(np.float32)
    lost = array[np.isinf(cast) & np.isfinite(array)]
    if lost.size:
        name = request.inputs[index].name
        raise InvalidInput(f"inputs[{index}]", f"input {name!r}: expected numbers that fit FP32, got {lost[0]}")
    return cast


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return (shown or "none") + (f" and {len(names) - 10} more" if len(names) > 10 else "")  # noqa: PLR2004  as shown
