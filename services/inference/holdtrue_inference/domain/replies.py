"""Replies as bytes. A reply is a head that depends only on its shape, made once, and a tail of what is new in it.

Concatenated protobuf messages of one type are one message with all their fields: so head and tail are written apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from holdtrue_contracts.ids import uuid_text
from holdtrue_contracts.oip import tensors
from holdtrue_contracts.oip.client import set_parameter
from holdtrue_contracts.oip.inference_pb2 import ModelInferRequest, ModelInferResponse

from holdtrue_inference.domain.errors import InvalidInput

if TYPE_CHECKING:
    from holdtrue_models.signature import Output, Signature
    from numpy.typing import NDArray

    from holdtrue_inference.domain.answers import Answer

LABEL = "label"

Wanted = tuple[int, ...]
Rendered = list[tuple[int, Any]]
"""For each output the bytes of a row (0: of varying length) and all rows: bytes, or a list of bytes."""

_HEADS = 1024  # shapes whose heads are kept
_ID, _PARAMETER, _RAW, _KEY, _VALUE, _STRING = b"\x1a", b"\x22", b"\x32", b"\x0a", b"\x12", b"\x1a"


class ReplyWriter:
    """Writes the replies of one revision."""

    def __init__(
        self, model: str, version: str, signature: Signature, labels: NDArray[Any], constants: dict[str, str]
    ) -> None:
        """Take the labels by class as answers number them, and the parameters that are in every reply."""
        self._model = model
        self._version = version
        self._outputs = signature.outputs
        self._constants = constants
        self._labels = labels if labels.dtype == np.int64 else [tensors.to_raw(labels[[i]]) for i in range(len(labels))]
        self._all: Wanted = tuple(range(len(self._outputs)))
        self._heads: dict[tuple[int, Wanted], bytes] = {}

    def wanted(self, request: ModelInferRequest) -> Wanted:
        """Which outputs the request asks for, by place; all if it names none. Raises InvalidInput."""
        if not request.outputs:
            return self._all
        places = {output.name: place for place, output in enumerate(self._outputs)}
        for index, output in enumerate(request.outputs):
            if output.name not in places:
                raise InvalidInput(
                    f"outputs[{index}].name", f"expected one of {', '.join(places)}, got {output.name!r}"
                )
        return tuple(places[output.name] for output in request.outputs)

    def render(self, answer: Answer) -> Rendered:
        """The elements of every output for all rows of a batch."""
        return [self._column(output, answer) for output in self._outputs]

    def write(  # noqa: PLR0913  what is new in a reply
        self,
        rendered: Rendered,
        start: int,
        stop: int,
        *,
        wanted: Wanted,
        external_id: str,
        request_id: bytes,
        tails: bytes,
    ) -> bytes:
        """The raw reply for rows start to stop of a batch; `tails` are theirs as text, comma-joined."""
        parts = [self._head(stop - start, wanted)]
        if external_id:
            parts += (_ID, _varint(len(external_id)), external_id.encode())
        parts += (
            _REQUEST_ID_HEAD,
            uuid_text(request_id).encode(),
            _parameter_head(b"holdtrue_tails", len(tails)),
            tails,
        )
        for place in wanted:
            width, elements = rendered[place]
            raw = elements[start * width : stop * width] if width else b"".join(elements[start:stop])
            parts += (_RAW, _varint(len(raw)), raw)
        return b"".join(parts)

    def _column(self, output: Output, answer: Answer) -> tuple[int, Any]:
        if output.name != LABEL:
            return 4 * answer.probabilities.shape[1], answer.probabilities.tobytes()
        if isinstance(self._labels, list):
            return 0, [self._labels[index] for index in answer.classes.tolist()]
        return 8, self._labels[answer.classes].tobytes()

    def _head(self, rows: int, wanted: Wanted) -> bytes:
        head = self._heads.get((rows, wanted))
        if head is None:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            head = self._heads[rows, wanted] = self._make_head(rows, wanted)
        return head

    def _make_head(self, rows: int, wanted: Wanted) -> bytes:
        response = ModelInferResponse(model_name=self._model, model_version=self._version)
        for name, value in self._constants.items():
            set_parameter(response.parameters, name, value)
        for output in (self._outputs[place] for place in wanted):
            response.outputs.add(name=output.name, datatype=output.datatype, shape=(rows, *output.shape[1:]))
        return response.SerializeToString()


def typed(reply: bytes) -> bytes:
    """The same reply with typed contents, for requests that came typed."""
    response = ModelInferResponse.FromString(reply)
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        tensors.fill_contents(output.contents, tensors.from_raw(output.datatype, output.shape, raw))
    del response.raw_output_contents[:]
    return response.SerializeToString()


def _varint(number: int) -> bytes:
    if number < 0x80:  # noqa: PLR2004  seven bits a byte
        return bytes((number,))
    groups = bytearray()
    while number >= 0x80:  # noqa: PLR2004
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _parameter_head(name: bytes, length: int) -> bytes:
    """What comes before a text parameter's value of that many bytes."""
    string = _STRING + _varint(length)
    value = _VALUE + _varint(len(string) + length) + string
    key = _KEY + _varint(len(name)) + name
    return _PARAMETER + _varint(len(key) + len(value) + length) + key + value


_REQUEST_ID_HEAD = _parameter_head(b"holdtrue_request_id", 36)
