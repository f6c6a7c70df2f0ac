"""What clients are told before they ask for a prediction: readiness, metadata, health, reflection."""

from __future__ import annotations

import asyncio
import importlib.metadata
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from holdtrue_contracts.oip import SERVICE, SIGNATURE_PARAMETER
from holdtrue_contracts.oip import inference_pb2 as oip
from holdtrue_core.health import check_health
from holdtrue_models import Column, MalformedModel, Signature

from tests.component.inference.door import Door
from tests.inference.states import revision, state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WITH_TEXT = Signature.binary((Column(name="age"), Column(name="word", dtype="string")), ("no", "yes"), threshold=0.5)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Door]:
    """ "fraud" with two revisions and a standby, and "texts" with a model that takes text."""
    door = Door(tmp_path)
    door.world.signatures["t"] = WITH_TEXT
    challenger = revision("r1", 1_000, slot=1, model_version=2)
    revisions = [revision(weight=9_000), challenger, revision("r2", 0, slot=2, model_version=3)]
    await door.open(state(1, *revisions), state(1, revision("t"), name="texts"), state(1, revision("s", 0), name="new"))
    yield door
    await door.close()


async def test_the_server_says_who_it_is_and_whether_it_serves(door: Door) -> None:
    assert (await door.call("ServerLive", oip.ServerLiveRequest())).live
    assert (await door.call("ServerReady", oip.ServerReadyRequest())).ready
    told = await door.call("ServerMetadata", oip.ServerMetadataRequest())
    assert (told.name, told.version) == ("holdtrue", importlib.metadata.version("holdtrue-inference"))
    assert list(told.extensions) == ["model_repository", "parameters"]


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [
        ("fraud", "", True),
        ("fraud", "1", True),
        ("fraud", "3", True),
        ("fraud", "4", False),
        ("nobody", "", False),
        ("new", "", False),
        ("new", "1", True),
    ],
)
async def test_a_model_is_ready_or_not_and_never_an_error(two: Door, name: str, version: str, ready: bool) -> None:  # noqa: FBT001
    assert (await two.call("ModelReady", oip.ModelReadyRequest(name=name, version=version))).ready is ready


def tensors(described: Any) -> list[tuple[str, str, list[int]]]:
    return [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in described]


async def test_metadata_of_numbers_and_of_text(two: Door) -> None:
    told = await two.call("ModelMetadata", oip.ModelMetadataRequest(name="fraud"))
    assert (told.name, list(told.versions), told.platform) == ("fraud", ["1", "2", "3"], "onnxruntime_onnx")
    assert tensors(told.inputs) == [("X", "FP32", [-1, 2])]
    assert tensors(told.outputs) == [("label", "INT64", [-1]), ("probabilities", "FP32", [-1, 2])]
    told = await two.call("ModelMetadata", oip.ModelMetadataRequest(name="fraud", version="2"))
    assert list(told.versions) == ["2"]
    told = await two.call("ModelMetadata", oip.ModelMetadataRequest(name="texts"))
    assert tensors(told.inputs) == [("age", "FP32", [-1]), ("word", "BYTES", [-1])]
    assert tensors(told.outputs)[0] == ("label", "BYTES", [-1])


async def test_the_configuration_holds_the_whole_signature(two: Door) -> None:
    config = (await two.call("ModelConfig", oip.ModelConfigRequest(name="texts"))).config
    assert Signature.from_json(config.parameters[SIGNATURE_PARAMETER].string_value) == WITH_TEXT
    assert (config.name, config.max_batch_size) == ("texts", 10_000)
    assert [(i.name, oip.DataType.Name(i.data_type), list(i.dims)) for i in config.input] == [
        ("age", "TYPE_FP32", [1]),
        ("word", "TYPE_STRING", [1]),
    ]


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig"])
@pytest.mark.parametrize(
    ("name", "version", "status"),
    [
        ("nobody", "", "NOT_FOUND UNKNOWN_MODEL"),
        ("fraud", "4", "NOT_FOUND UNKNOWN_MODEL"),
        ("new", "", "UNAVAILABLE NOT_SERVING"),
    ],
)
async def test_what_there_is_not_cannot_be_described(
    two: Door, method: str, name: str, version: str, status: str
) -> None:
    refusal = await two.refused(two.call(method, getattr(oip, f"{method}Request")(name=name, version=version)))
    assert f"{refusal.code} {refusal.info.reason}" == status


async def test_the_index_lists_every_revision_and_why_one_does_not_serve(door: Door) -> None:
    door.world.broken["r1"] = MalformedModel("no model")
    door.world.replica.desire(state(2, revision(weight=0), revision("r1", slot=1, model_version=2)))
    while not door.world.progress()["fraud"][1].get("r1", (0, ""))[1]:
        door.world.replica.changed.clear()
        await door.world.replica.changed.wait()
    index = (await door.call("RepositoryIndex", oip.RepositoryIndexRequest())).models
    assert [(m.name, m.version, m.state, m.reason) for m in index] == [
        ("fraud", "1", "READY", ""),
        ("fraud", "2", "UNAVAILABLE", "no model"),
    ]
    index = (await door.call("RepositoryIndex", oip.RepositoryIndexRequest(ready=True))).models
    assert [m.version for m in index] == ["1"]


async def test_health_follows_the_life_of_the_process(door: Door) -> None:
    address = f"127.0.0.1:{door.server.port}"
    assert await check_health(address, 20)
    assert await check_health(address, 20, SERVICE)
    await door.server.announce(ready=False)
    assert not await check_health(address, 20)
    assert not await check_health(address, 20, SERVICE)
    check = door.channel.unary_unary(
        "/grpc.health.v1.Health/Check", request_serializer=health_pb2.HealthCheckRequest.SerializeToString
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(health_pb2.HealthCheckRequest(service="nobody"), timeout=20)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_draining_server_answers_what_it_has_and_is_not_ready(door: Door) -> None:
    model = door.world.models["r0"]
    model.held = True
    asked = asyncio.create_task(door.ask(0.5))
    await model.started()
    stopping = asyncio.create_task(door.server.stop())
    while not door.world.serving.draining:
        await asyncio.sleep(0)
    assert not door.world.replica.ready
    model.let_go()
    assert (await asked).revision == "r0"
    await stopping
    with pytest.raises(grpc.aio.AioRpcError):
        await door.ask(0.5, timeout=1)


async def test_reflection_describes_the_protocol(door: Door) -> None:
    services = await reflected(door, reflection_pb2.ServerReflectionRequest(list_services=""))
    assert {service.name for service in services.list_services_response.service} == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    found = await reflected(door, reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
    files = [FileDescriptorProto.FromString(data) for data in found.file_descriptor_response.file_descriptor_proto]
    methods = {m.name for file in files for service in file.service if service.name in SERVICE for m in service.method}
    assert {"ModelInfer", "ModelStreamInfer", "ServerLive"} <= methods


async def reflected(door: Door, question: reflection_pb2.ServerReflectionRequest) -> Any:
    """What reflection answers."""
    method = door.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    async for answer in method(iter([question]), timeout=20):
        return answer
    raise AssertionError("no answer")
