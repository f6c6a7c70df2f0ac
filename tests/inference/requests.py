"""Requests of the protocol, built field by field as any client may send them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from holdtrue_contracts.oip import inference_pb2 as oip
from holdtrue_contracts.oip import tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONTENTS = dict(tensors._CONTENTS)
"""Field of typed elements by datatype."""


def raw(*inputs: tuple[str, NDArray[Any]], **fields: Any) -> oip.ModelInferRequest:
    """A request in raw form; the arrays' dtypes are the datatypes."""
    request = oip.ModelInferRequest(model_name="fraud", **fields)
    for name, array in inputs:
        request.inputs.add(name=name, datatype=tensors.datatype_of(array), shape=array.shape)
        request.raw_input_contents.append(tensors.to_raw(array))
    return request


def typed(*inputs: tuple[str, NDArray[Any]], **fields: Any) -> oip.ModelInferRequest:
    """The same request in typed form."""
    request = oip.ModelInferRequest(model_name="fraud", **fields)
    for name, array in inputs:
        tensor = request.inputs.add(name=name, datatype=tensors.datatype_of(array), shape=array.shape)
        tensors.fill_contents(tensor.contents, array)
    return request


def tensor(
    name: str, datatype: str, shape: Sequence[int], data: bytes | None = None, **contents: Any
) -> oip.ModelInferRequest:
    """A request of one input that may contradict itself: raw with data, typed with contents, both, or neither."""
    request = oip.ModelInferRequest(model_name="fraud")
    added = request.inputs.add(name=name, datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(added.contents, field).extend(values)
    if data is not None:
        request.raw_input_contents.append(data)
    return request


def matrix(rows: int, width: int, fill: float = 0.5) -> NDArray[np.float32]:
    """Rows of one value."""
    return np.full((rows, width), fill, np.float32)
