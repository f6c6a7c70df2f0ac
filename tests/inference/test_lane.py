"""A lane: everybody gets the answer to what they asked, and nobody's misfortune is another's."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from holdtrue_contracts import prediction_id
from holdtrue_contracts.deployer.v1.deployments_pb2 import LogMode
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_contracts.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from holdtrue_inference import lane as module
from holdtrue_inference.domain.errors import Expired, InvalidInput, Overloaded, SpoolFull
from holdtrue_inference.domain.estimate import RunTime
from holdtrue_inference.lane import Failed
from structlog.testing import capture_logs

from tests.inference.lanes import POISON, QUICK, SLOW, SPOOL_FULL, Always, Desk, read, scores
from tests.inference.requests import matrix, raw, typed
from tests.inference.states import ID_KEY, revision

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ACK = revision(log_mode=LogMode.LOG_MODE_ACK)
OFF = revision(log_mode=LogMode.LOG_MODE_OFF)


@pytest.fixture(params=[QUICK, SLOW], ids=["inline", "thread"])
async def desk(request: pytest.FixtureRequest) -> Any:
    """A lane that runs on the loop, and one that runs in the model's thread."""
    desk = Desk(Always(request.param))
    yield desk
    desk.close()


@pytest.fixture
async def slow() -> Any:
    """A lane that runs in the model's thread, where it can be held."""
    desk = Desk()
    yield desk
    desk.close()


@pytest.fixture
def desks() -> Iterator[list[Desk]]:
    """Lanes that a test makes for itself."""
    made: list[Desk] = []
    yield made
    for desk in made:
        desk.close()


async def outcome(reply: asyncio.Future[bytes]) -> Exception | None:
    """What a request failed with."""
    await asyncio.wait([reply])
    error = reply.exception()
    assert error is None or isinstance(error, Exception)
    return error


async def test_each_gets_the_answer_to_its_own_rows(desk: Desk) -> None:
    random = np.random.default_rng(0)
    asked: list[tuple[list[float], asyncio.Future[bytes]]] = []
    for number in range(300):
        values = [number + float(f) for f in random.random(random.integers(1, 5)).astype(np.float16)]
        asked.append((values, desk.ask(*values, id=f"order {number}")))
        if random.random() < 0.1:
            await asyncio.sleep(0)
    for number, (values, future) in enumerate(asked):
        reply = await future
        np.testing.assert_array_equal(scores(reply), np.array(values, np.float32) % 1)
        told = read(reply)
        assert told.outputs["label"].tolist() == [score >= 0.5 for score in scores(reply)]
        assert (told.external_id, told.request_id) == (
            f"order {number}",
            prediction_id.text(desk.ids[values[0]], 0)[:36],
        )
        tails = [prediction_id.parse(each) for each in told.prediction_ids]
        assert [each.tail.row for each in tails] == list(range(len(values)))
        assert all(prediction_id.verify(each, ID_KEY) for each in tails)
    assert Counter(desk.log.request_ids) == Counter(desk.ids.values())
    assert len(desk.model.runs) < 300, "they came together"


async def test_nobody_is_answered_before_it_is_recorded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    append, done = desk.log.append, list[bool]()

    def look(chunks: Sequence[bytes]) -> int:
        number = append(chunks)
        done.extend(replies[id_].done() for id_ in desk.log.request_ids[len(done) :])
        return number

    monkeypatch.setattr(desk.log, "append", look)
    replies = {desk.ids[value]: reply for value in (0.5, 1.5, 2.5, 3.5) for reply in [desk.ask(value)]}
    await asyncio.gather(*replies.values())
    assert done == [False] * 4


async def test_raw_is_answered_raw_and_typed_typed(desk: Desk) -> None:
    x = matrix(2, 2, 0.25)
    for form in (raw, typed):
        reply = await desk.lane.submit(form(("X", x)), b"i" * 16, 0, 30.0)
        response = ModelInferResponse.FromString(reply)
        assert (len(response.raw_output_contents), response.outputs[0].HasField("contents")) == (
            (2, False) if form is raw else (0, True)
        )
        assert scores(reply) == [0.25, 0.25]


async def test_a_wrong_request_is_refused_before_it_joins(desk: Desk) -> None:
    before, after = desk.ask(1.5), desk.ask(2.5)
    wrong: list[tuple[ModelInferRequest, str]] = [
        (raw(("X", matrix(1, 3))), "inputs[0].shape"),
        (raw(("X", matrix(1, 2, np.nan))), "inputs"),
        (raw(("X", matrix(1, 2)), id="ä"), "id"),
    ]
    unknown = raw(("X", matrix(1, 2)))
    unknown.outputs.add(name="score")
    for request, field in [*wrong, (unknown, "outputs[0].name")]:
        with pytest.raises(InvalidInput) as caught:
            desk.lane.submit(request, b"i" * 16, 0, 30.0)
        assert caught.value.field == field
    assert (scores(await before), scores(await after)) == ([0.5], [0.5])
    assert desk.model.seen == [1.5, 2.5]


async def test_what_makes_a_model_fail_fails_alone(desk: Desk) -> None:
    good = [desk.ask(i + 0.5) for i in range(3)]
    bad = desk.ask(POISON)
    good += [desk.ask(i + 0.25) for i in range(3, 6)]
    with capture_logs() as logs:
        replies = await asyncio.gather(*good)
        error = await outcome(bad)
    assert [scores(reply) for reply in replies] == [[0.5]] * 3 + [[0.25]] * 3
    assert isinstance(error, Failed)
    assert [(entry["incident"], entry["exc_info"]) for entry in logs] == [(str(error), True)], "the caller gets an id"
    assert [len(x) for x in desk.model.runs] == [7] + [1] * 7, "together, then each alone"
    assert desk.ids[POISON] not in desk.log.request_ids
    assert len(desk.log.request_ids) == 6


async def test_a_model_that_always_fails_fails_everybody_and_takes_the_next(desk: Desk) -> None:
    with capture_logs():
        errors = [await outcome(reply) for reply in [desk.ask(POISON), desk.ask(POISON, 1.0)]]
    assert all(isinstance(error, Failed) for error in errors)
    assert str(errors[0]) != str(errors[1])
    assert scores(await desk.ask(1.5)) == [0.5]
    assert desk.traffic.codes == Counter()


async def test_who_expired_or_left_never_reaches_the_model(slow: Desk) -> None:
    busy = await slow.hold()
    gone, expired, kept = slow.ask(1.5), slow.ask(2.5, remaining=0.002), slow.ask(3.5)
    also_gone = slow.ask(4.5)
    gone.cancel()
    also_gone.cancel()
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.003
    while loop.time() < end:
        await asyncio.sleep(0)
    slow.model.let_go()
    assert (scores(await busy), scores(await kept)) == ([0.5], [0.5])
    assert isinstance(await outcome(expired), Expired)
    assert slow.model.seen == [0.5, 3.5]
    assert slow.log.request_ids == [slow.ids[0.5], slow.ids[3.5]]


async def test_who_leaves_while_the_model_runs_hurts_nobody(slow: Desk) -> None:
    busy = await slow.hold()
    gone, kept = slow.ask(1.5), slow.ask(2.5)
    slow.model.let_go(for_ever=False)
    await busy
    await slow.model.started()
    gone.cancel()
    slow.model.let_go()
    assert scores(await kept) == [0.5]
    assert slow.model.seen == [0.5, 1.5, 2.5]


async def test_a_batch_has_at_most_its_rows_and_no_request_is_split(slow: Desk) -> None:
    busy = await slow.hold()
    sizes = [1_000, 24, 1, 1_023, 5_000, 2]
    replies = [slow.ask(*[i + 1.5] * size) for i, size in enumerate(sizes)]
    slow.model.let_go()
    await asyncio.gather(busy, *replies)
    assert [len(x) for x in slow.model.runs] == [1, 1_024, 1_024, 5_000, 2]


async def test_who_would_wait_too_long_is_told_when_to_come_again(desks: list[Desk]) -> None:
    desks.append(desk := Desk(Always(0.01, per_row=0.001)))
    busy = await desk.hold()
    waiting = desk.ask(*[1.5] * 100)
    with pytest.raises(Overloaded, match=r"100 rows wait, and the answer is expected in 0\.120 s") as caught:
        desk.ask(*[2.5] * 10, remaining=0.119)
    assert caught.value.retry_after_ms == 120
    taken = desk.ask(*[3.5] * 10, remaining=30.0)
    desk.model.let_go()
    await asyncio.gather(busy, waiting, taken)
    assert 2.5 not in desk.model.seen


async def test_one_slow_run_does_not_close_the_lane_for_ever(desks: list[Desk]) -> None:
    """An estimate that nobody could correct, because it refuses everybody, would stay wrong."""
    estimate = RunTime([(1, 0.0), (1_024, 0.0)])
    estimate.learn(1, 100.0)
    assert estimate.seconds(1) > 30
    desks.append(desk := Desk(estimate))
    while estimate.seconds(1) >= 1:
        assert scores(await desk.ask(1.5, remaining=1.0)) == [0.5]


@pytest.mark.parametrize("mode", [LogMode.LOG_MODE_ASYNC, LogMode.LOG_MODE_ACK])
async def test_while_the_log_is_full_nothing_runs(desks: list[Desk], mode: LogMode.ValueType) -> None:
    desks.append(desk := Desk(revision_=revision(log_mode=mode)))
    desk.log.full = True
    with pytest.raises(SpoolFull, match="the prediction log is full"):
        desk.ask(1.5)
    desk.log.full = False
    desk.log.acknowledged.set()
    assert scores(await desk.ask(2.5)) == [0.5]
    assert desk.model.seen == [2.5]


async def test_what_cannot_be_recorded_is_not_answered(desk: Desk) -> None:
    desk.log.fails = SPOOL_FULL
    replies = [desk.ask(1.5), desk.ask(2.5)]
    assert [await outcome(reply) for reply in replies] == [SPOOL_FULL] * 2
    desk.log.fails = None
    assert scores(await desk.ask(3.5)) == [0.5]
    assert desk.log.request_ids == [desk.ids[3.5]]


async def test_a_broken_disk_lets_nobody_wait_in_vain(desk: Desk) -> None:
    desk.log.fails = OSError(5, "Input/output error")
    with capture_logs() as logs:
        errors = [await outcome(reply) for reply in [desk.ask(1.5), desk.ask(2.5)]]
    assert [type(error) for error in errors] == [Failed] * 2
    assert logs[0]["incident"] == str(errors[0])
    desk.log.fails = None
    assert scores(await desk.ask(3.5)) == [0.5]


async def test_without_a_log_a_full_one_does_not_matter(desks: list[Desk]) -> None:
    desks.append(desk := Desk(revision_=OFF))
    desk.log.full, desk.log.fails = True, SPOOL_FULL
    reply = await desk.ask(1.5)
    assert read(reply).durability == "BEST_EFFORT"
    desk.lane.fail("INTERNAL")
    desk.lane.record_failures()
    assert not desk.log.chunks


@pytest.mark.parametrize(("durable", "told"), [(True, "REPLICATED"), (False, "SPOOLED")])
async def test_ack_waits_for_kafka_and_holds_up_nobody_else(desks: list[Desk], durable: bool, told: str) -> None:  # noqa: FBT001
    desks.append(desk := Desk(Always(QUICK), ACK))
    desk.log.durable = durable
    first = desk.ask(1.5)
    while not desk.log.asked:
        await asyncio.sleep(0)
    desk.log.acknowledged, later = asyncio.Event(), desk.log.acknowledged
    desk.log.acknowledged.set()
    assert read(await desk.ask(2.5)).durability == told
    assert not first.done()
    later.set()
    assert read(await first).durability == told


async def test_failures_are_recorded_together(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAILURES_SECONDS", 0.0)
    for code in ("INTERNAL", "RESOURCE_EXHAUSTED", "INTERNAL", "DEADLINE_EXCEEDED"):
        desk.lane.fail(code)
    while not desk.log.chunks:
        await asyncio.sleep(0)
    [chunk] = desk.log.chunks
    extra = PredictionsServed.FromString(bytes(chunk.extra))
    assert (dict(extra.failed), extra.shed) == ({"INTERNAL": 2, "DEADLINE_EXCEEDED": 1}, 1)
    context = PredictionsServed.FromString(chunk.context)
    assert (context.revision, context.model_version, context.replica_id) == ("r0", 1, "host/0")
    desk.lane.record_failures()
    assert len(desk.log.chunks) == 1, "nothing new"
    desk.lane.fail("INTERNAL")
    desk.log.fails = SPOOL_FULL
    desk.lane.record_failures()
    assert len(desk.log.chunks) == 1
