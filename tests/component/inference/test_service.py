"""The whole service on a real Kafka."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import numpy as np
from holdtrue_contracts import prediction_id
from holdtrue_contracts.columns import unpack, unpack_texts
from holdtrue_contracts.deployer.v1.deployments_pb2 import Role
from holdtrue_contracts.inference.v1.replicas_pb2 import LoadState
from holdtrue_contracts.oip import client
from holdtrue_storage.blobs import DirectoryBlobs

from tests.component.inference.harness import Load, ids_of, predictions, publish, read, served
from tests.inference.models import made, store, with_traffic
from tests.inference.states import ID_KEY, state

if TYPE_CHECKING:
    from holdtrue_events.kafka import Kafka

    from tests.component.inference.harness import Service


async def test_what_is_desired_is_served_and_recorded(service: Service, bus: Kafka) -> None:
    revision = with_traffic(store(DirectoryBlobs(service.folder / "blobs")), 10_000, Role.ROLE_CHAMPION)
    await service.start()
    await publish(bus, state(1, revision))
    replica = await served(bus, 1)
    assert replica.address == service.address
    assert [r.state for r in replica.deployments[0].revisions] == [LoadState.LOAD_STATE_READY]

    x = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    async with grpc.aio.insecure_channel(service.address) as channel:
        infer = client.method(channel, "ModelInfer")
        reply = client.read_reply(await infer(client.infer_request("fraud", {"X": x}, external_id="order 7")))
    assert await service.stop() == 0

    manifest, onnx = made()
    from holdtrue_models import load_onnx

    expected = load_onnx(onnx, manifest).run(x)
    np.testing.assert_array_equal(reply.outputs["probabilities"], expected)
    assert (reply.version, reply.revision, reply.role, reply.durability) == ("1", "r0", "champion", "SPOOLED")
    [record] = await predictions(bus)
    assert ids_of([record]) == reply.prediction_ids
    assert all(prediction_id.verify(prediction_id.parse(p), ID_KEY) for p in reply.prediction_ids)
    np.testing.assert_array_equal(unpack(record.x, np.float32, 2), x)
    np.testing.assert_array_equal(unpack(record.scores, np.float32, 2), expected[:, 1:])
    np.testing.assert_array_equal(unpack(record.classes, np.int16, 1), reply.outputs["label"])
    assert unpack_texts(record.external_ids) == ["order 7"]
    assert (record.rows, record.answered, record.sequence, record.revision) == (3, 1, 1, "r0")
    assert unpack(record.latency, np.uint32, 1).sum() == 1
    assert (await read(bus, "replicas.v1"))[-1][1] is None, "a stopped replica leaves a tombstone"


async def test_kill_9_loses_nothing_that_was_answered(service: Service, bus: Kafka) -> None:
    revision = with_traffic(store(DirectoryBlobs(service.folder / "blobs")), 10_000, Role.ROLE_CHAMPION)
    await service.start()
    await publish(bus, state(1, revision))
    await served(bus, 1)
    answered: list[str] = []
    for _ in range(3):
        async with Load(service.address) as load:
            await asyncio.sleep(0.7)
            await service.kill()
        answered += load.ids
        await service.start()
    assert await service.stop() == 0
    recorded = ids_of(await predictions(bus))
    assert len(answered) > 300
    assert set(answered) <= set(recorded), "an answered prediction is in no record"
    assert len(recorded) == len(set(recorded)), "a prediction is in two records"
