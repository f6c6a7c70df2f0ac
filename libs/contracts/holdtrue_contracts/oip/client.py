"""The caller's side: build requests, read replies, call the methods over any gRPC channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from holdtrue_contracts.oip import SERVICE, inference_pb2, tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.internal.containers import MessageMap
    from numpy.typing import NDArray

    Parameter = bool | int | float | str


@dataclass(frozen=True)
class Reply:
    """What a ModelInfer answered."""

    model: str
    """Name of the model."""
    version: str
    """Version that answered."""
    external_id: str
    """The id that the caller gave, or empty."""
    outputs: dict[str, NDArray[Any]]
    """Arrays by the name of the output, BYTES as `str`."""
    parameters: dict[str, Parameter]
    """All parameters of the reply."""

    @property
    def request_id(self) -> str:
        """Id that the server gave the request; empty if the server is not holdtrue's."""
        return str(self.parameters.get("holdtrue_request_id", ""))

    @property
    def revision(self) -> str:
        """Revision of the deployment that answered."""
        return str(self.parameters.get("holdtrue_revision", ""))

    @property
    def role(self) -> str:
        """What that revision did: "champion", "challenger" or "standby"."""
        return str(self.parameters.get("holdtrue_role", ""))

    @property
    def durability(self) -> str:
        """What the record of the prediction survives: REPLICATED, SPOOLED or BEST_EFFORT."""
        return str(self.parameters.get("holdtrue_durability", ""))

    @property
    def prediction_ids(self) -> list[str]:
        """Id of each row's prediction, by which a label is reported."""
        tails = str(self.parameters.get("holdtrue_tails", ""))
        return [f"{self.request_id}/{tail}" for tail in tails.split(",")] if tails else []


def infer_request(  # noqa: PLR0913  the protocol's request has so many parts
    model: str,
    inputs: Mapping[str, NDArray[Any]],
    *,
    version: str = "",
    external_id: str = "",
    outputs: Iterable[str] = (),
    parameters: Mapping[str, Parameter] | None = None,
) -> inference_pb2.ModelInferRequest:
    """A request in raw form; the arrays' dtypes say the datatypes, text goes as BYTES.

    Raises:
        MalformedTensor: an array has a dtype that the protocol does not know.
    """
    request = inference_pb2.ModelInferRequest(model_name=model, model_version=version, id=external_id)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=tensors.datatype_of(array), shape=array.shape)
        request.raw_input_contents.append(tensors.to_raw(array))
    for name in outputs:
        request.outputs.add(name=name)
    for name, value in (parameters or {}).items():
        set_parameter(request.parameters, name, value)
    return request


def read_reply(response: inference_pb2.ModelInferResponse) -> Reply:
    """The reply as arrays, whether it came raw or typed.

    Raises:
        MalformedTensor: an output's elements do not fit its datatype and shape.
    """
    raw = response.raw_output_contents
    outputs: dict[str, NDArray[Any]] = {}
    for index, output in enumerate(response.outputs):
        if raw:
            array = tensors.from_raw(output.datatype, output.shape, raw[index])
        else:
            array = tensors.from_contents(output.datatype, output.shape, output.contents)
        outputs[output.name] = _decoded(array) if output.datatype == tensors.BYTES else array
    return Reply(
        model=response.model_name,
        version=response.model_version,
        external_id=response.id,
        outputs=outputs,
        parameters={name: parameter_value(value) for name, value in response.parameters.items()},
    )


def set_parameter(parameters: MessageMap[str, inference_pb2.InferParameter], name: str, value: Parameter) -> None:
    """Write one parameter in the field of its type."""
    field = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
    setattr(parameters[name], field, value)


def parameter_value(parameter: inference_pb2.InferParameter) -> Parameter:
    """The value of a parameter; an empty text if it has none."""
    choice = parameter.WhichOneof("parameter_choice")
    return "" if choice is None else getattr(parameter, choice)


def method(channel: Any, name: str) -> Any:  # noqa: ANN401  channels and callables of grpc and grpc.aio share no type
    """The protocol's unary method of that name, for example "ModelInfer", as a callable on a gRPC channel.

    It takes the request message and what gRPC's callables take (`timeout`, `metadata`), and gives the response message.
    """
    request = getattr(inference_pb2, f"{name}Request")
    response = getattr(inference_pb2, f"{name}Response")
    return channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )


def _decoded(array: NDArray[Any]) -> NDArray[Any]:
    return np.array([text.decode() for text in array.ravel()], object).reshape(array.shape)
