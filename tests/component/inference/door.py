"""The gRPC server of inference in this process, with models that a test can hold: no Kafka is asked on that way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from holdtrue_contracts.oip import SERVICE, client
from holdtrue_contracts.oip import inference_pb2 as oip
from holdtrue_inference.rpc import InferenceServer, InferenceService
from holdtrue_inference.settings import InferenceSettings

from tests.inference.replicas import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
    from holdtrue_inference.domain.estimate import RunTime
    from holdtrue_inference.lane import Lane


class Refusal:
    """What a caller sees of an error."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code, self.text = error.code().name, error.details() or ""
        self.trailers = dict(error.trailing_metadata() or ())
        status = Status.FromString(bytes(self.trailers["grpc-status-details-bin"]))  # type: ignore[arg-type]
        assert (status.code, status.message) == (error.code().value[0], self.text)
        self.info, self.violations = ErrorInfo(), list[tuple[str, str]]()
        for detail in status.details:
            detail.Unpack(self.info)
            bad = BadRequest()
            if detail.Unpack(bad):
                self.violations = [(v.field, v.description) for v in bad.field_violations]
        assert self.info.domain == "holdtrue"


class Door:
    """What is served, and a client before it."""

    def __init__(self, folder: Path, run_time: RunTime | None = None) -> None:
        self.world = World(folder / "desired", run_time)
        settings = InferenceSettings(
            kafka="127.0.0.1:1", blobs=folder, cache=folder, grpc_port=0, metrics_port=0, grace_seconds=20
        )
        self.service = InferenceService(self.world.serving, self.world.replica, self.world.traffic)
        self.server = InferenceServer(settings, self.service, self.world.serving)

    async def open(self, *states: DeploymentState) -> None:
        """Serve these."""
        for state in states:
            self.world.cache.save(state)
        await self.world.live()
        await self.server.start()
        await self.server.announce(ready=True)
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.server.port}")

    async def close(self) -> None:
        await self.channel.close()
        for model in self.world.models.values():
            model.let_go()
        await self.server.stop()
        await self.world.end()

    async def ask(self, *values: float, model: str = "fraud", **options: Any) -> client.Reply:
        """Ask for rows of these values; options of the request, and `timeout` and `metadata` of the call."""
        call = {name: options.pop(name) for name in ("timeout", "metadata") if name in options}
        x = np.array([[value, 0] for value in values], np.float32)
        return await self.infer(client.infer_request(model, {"X": x}, **options), **call)

    async def infer(self, request: oip.ModelInferRequest, **call: Any) -> client.Reply:
        return client.read_reply(await self.call("ModelInfer", request, **call))

    async def call(self, name: str, request: Any, **call: Any) -> Any:
        """Any unary method."""
        return await client.method(self.channel, name)(request, **{"timeout": 30, **call})

    async def refused(self, asking: Any) -> Refusal:
        """How something that was asked is refused."""
        try:
            await asking
        except grpc.aio.AioRpcError as error:
            return Refusal(error)
        raise AssertionError("it was answered")

    async def stream(self, requests: AsyncIterator[oip.ModelInferRequest]) -> AsyncIterator[client.Reply | str]:
        """Replies and error messages of one stream."""
        method = self.channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelStreamInferResponse.FromString,
        )
        async for response in method(requests, timeout=60):
            yield response.error_message or client.read_reply(response.infer_response)

    def lane(self, revision: str = "r0") -> Lane:
        """The lane of a revision that is served."""
        lanes = (lane for deployment in self.world.serving.table.deployments.values() for lane in deployment.targets)
        return next(lane for lane in lanes if lane.revision.revision == revision)

    async def until_waiting(self, count: int) -> None:
        """Wait until so many requests wait for the model of "r0"."""
        await self.until(lambda: len(self.lane()._waiting) == count)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)
