"""The stream: answers in the order of the requests, and one bad request is one message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from holdtrue_contracts.oip import SERVICE
from holdtrue_contracts.oip import inference_pb2 as oip
from structlog.testing import capture_logs

from tests.inference.lanes import POISON
from tests.inference.requests import matrix, raw, typed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from holdtrue_contracts.oip.client import Reply

    from tests.component.inference.door import Door


async def each(requests: Iterable[oip.ModelInferRequest]) -> AsyncIterator[oip.ModelInferRequest]:
    for request in requests:
        yield request


def row(value: float, **fields: str) -> oip.ModelInferRequest:
    return raw(("X", np.array([[value, 0]], np.float32)), **fields)


def score(reply: Reply | str) -> float:
    assert not isinstance(reply, str), reply
    return reply.outputs["probabilities"][0, 1]


async def test_answers_come_in_the_order_of_the_requests(door: Door) -> None:
    requests = [row((i % 64) / 64, id=str(i)) for i in range(400)]
    replies = [reply async for reply in door.stream(each(requests))]
    assert [score(reply) for reply in replies] == [(i % 64) / 64 for i in range(400)]
    assert [reply.external_id for reply in replies if not isinstance(reply, str)] == [str(i) for i in range(400)]
    assert len(door.world.models["r0"].runs) < 400, "they ran together"
    assert len(set(door.world.log.request_ids)) == 400


async def test_a_bad_request_is_one_message_and_the_stream_goes_on(door: Door) -> None:
    unknown, pinned = row(0.25), row(0.25)
    unknown.model_name, pinned.model_version = "nobody", "7"
    requests = [
        row(0.25), raw(("X", matrix(1, 3))), unknown, row(0.5), pinned, row(POISON), typed(("X", matrix(1, 2, 0.75)))
    ]  # fmt: skip
    with capture_logs():
        replies = [reply async for reply in door.stream(each(requests))]
    assert [score(replies[place]) for place in (0, 3, 6)] == [0.25, 0.5, 0.75]
    expected = {1: "expected [rows, 2]", 2: "there is no model 'nobody'", 4: "no version '7'", 5: "the log knows more"}
    for place, text in expected.items():
        reply = replies[place]
        assert isinstance(reply, str)
        assert text in reply
    assert door.world.traffic.codes == {"INVALID_ARGUMENT": 1, "NOT_FOUND": 2, "INTERNAL": 1}


async def test_bytes_that_are_no_request_are_one_message(door: Door) -> None:
    method = door.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
    answers = [
        oip.ModelStreamInferResponse.FromString(data)
        async for data in method(iter([b"\xff\xff", row(0.5).SerializeToString()]), timeout=60)
    ]
    assert "the bytes are no ModelInferRequest" in answers[0].error_message
    assert answers[1].infer_response.model_name == "fraud"


async def test_an_empty_stream_ends_at_once(door: Door) -> None:
    assert [reply async for reply in door.stream(each([]))] == []


async def test_a_stream_reads_no_further_ahead_than_a_hundred(door: Door) -> None:
    model = door.world.models["r0"]
    model.held = True
    replies: list[Reply | str] = []

    async def listen() -> None:
        async for reply in door.stream(each(row(i / 512) for i in range(300))):
            replies.append(reply)  # noqa: PERF401  it is looked at before the end

    listening = asyncio.create_task(listen())
    await model.started()
    await door.until_waiting(101)
    for _ in range(20):  # turns of the loop in which it could read on
        await door.call("ServerLive", oip.ServerLiveRequest())
    assert len(door.lane()._waiting) == 101
    assert not replies
    model.let_go()
    await listening
    assert [score(reply) for reply in replies] == [i / 512 for i in range(300)]


async def test_what_a_stream_that_is_left_had_asked_never_reaches_the_model(door: Door) -> None:
    model = door.world.models["r0"]
    model.held = True

    async def listen() -> None:
        async for _ in door.stream(each(row(i + 0.5) for i in range(50))):
            pass

    listening = asyncio.create_task(listen())
    await model.started()
    await door.until_waiting(49)
    listening.cancel()
    await asyncio.wait([listening])
    await door.until(lambda: all(job.reply.done() for job in door.lane()._waiting))
    model.let_go()
    assert (await door.ask(0.25)).revision == "r0"
    assert model.seen == [0.5, 0.25]


async def test_a_request_beyond_16_mib_ends_the_stream(door: Door) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [reply async for reply in door.stream(each([raw(("X", matrix(10_000, 500)))]))]
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
