"""Every refusal as a caller over gRPC sees it: status, reason, and what to do."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_contracts.oip import SERVICE
from holdtrue_inference.domain.errors import SpoolFull
from holdtrue_models import Column, Signature
from structlog.testing import capture_logs

from tests.component.inference.door import Door
from tests.inference.lanes import POISON, SLOW, Always
from tests.inference.requests import matrix, raw
from tests.inference.states import revision, state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OTHER_ID = "id-of-other"


@pytest.fixture
async def doors() -> AsyncIterator[list[Door]]:
    """Servers that a test makes for itself."""
    made: list[Door] = []
    yield made
    for door in made:
        await door.close()


@pytest.mark.parametrize(
    ("asked", "status", "text"),
    [
        ({"model": "nobody"}, "NOT_FOUND UNKNOWN_MODEL", "there is no model 'nobody' here; served: fraud"),
        ({"version": "7"}, "NOT_FOUND UNKNOWN_MODEL", "has no version '7' here; loaded: 1"),
        ({"external_id": "ä"}, "INVALID_ARGUMENT INVALID_ARGUMENT", "expected at most 128 printable"),
        ({"outputs": ["score"]}, "INVALID_ARGUMENT INVALID_ARGUMENT", "expected one of label, probabilities"),
        ({"parameters": {"timeout": 1}}, "DEADLINE_EXCEEDED EXPIRED", "the deadline passed while"),
        ({"model": "n" * 100_000}, "NOT_FOUND UNKNOWN_MODEL", "there is no model 'nnn"),
    ],
)
async def test_a_request_that_cannot_be_answered(door: Door, asked: dict[str, Any], status: str, text: str) -> None:
    refusal = await door.refused(door.ask(0.5, **asked))
    assert f"{refusal.code} {refusal.info.reason}" == status
    assert text in refusal.text
    assert door.world.traffic.codes == Counter({refusal.code: 1})
    assert (await door.ask(0.5)).revision == "r0"


async def test_wrong_input_names_its_part(door: Door) -> None:
    x = matrix(3, 2)
    x[1, 1] = np.nan
    refusal = await door.refused(door.infer(raw(("X", x))))
    assert (refusal.code, refusal.info.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    [(field, description)] = refusal.violations
    assert field == "inputs"
    assert description.startswith("row 1, column 'b': expected a finite number, got nan")
    assert (dict(refusal.info.metadata), refusal.text) == ({"row": "1"}, f"inputs: {description}")


async def test_bytes_that_are_no_request_are_told_apart(door: Door) -> None:
    for name in ("ModelInfer", "ModelMetadata"):
        method = door.channel.unary_unary(f"/{SERVICE}/{name}")
        refusal = await door.refused(method(b"\xff\xff\xff", timeout=20))
        assert (refusal.code, refusal.info.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
        assert f"the bytes are no {name}Request" in refusal.text


async def test_a_method_that_there_is_not(door: Door) -> None:
    method = door.channel.unary_unary(f"/{SERVICE}/SystemSharedMemoryStatus")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_request_beyond_16_mib_is_refused_by_the_transport(door: Door) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await door.infer(raw(("X", matrix(10_000, 500))))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await door.ask(0.5)).revision == "r0"


async def test_without_traffic_a_model_is_unavailable_unless_pinned(doors: list[Door], tmp_path: Path) -> None:
    doors.append(door := Door(tmp_path))
    await door.open(state(1, revision(weight=0)))
    refusal = await door.refused(door.ask(0.5))
    assert (refusal.code, refusal.info.reason) == ("UNAVAILABLE", "NOT_SERVING")
    assert "no revision with traffic yet" in refusal.text
    assert (await door.ask(0.5, version="1")).role == "standby"


async def test_a_full_spool(door: Door) -> None:
    door.world.log.full = True
    refusal = await door.refused(door.ask(0.5))
    assert (refusal.code, refusal.info.reason) == ("UNAVAILABLE", "SPOOL_FULL")
    assert "the prediction log is full" in refusal.text
    assert not door.world.models["r0"].runs
    door.world.log.full = False
    door.world.log.fails = SpoolFull("the disk of the prediction log is full; make room below /spool")
    refusal = await door.refused(door.ask(0.5))
    assert (refusal.code, refusal.info.reason) == ("UNAVAILABLE", "SPOOL_FULL")


async def test_a_model_that_fails_says_nothing_but_an_id(door: Door) -> None:
    with capture_logs() as logs:
        refusal = await door.refused(door.ask(POISON))
    assert (refusal.code, refusal.info.reason) == ("INTERNAL", "INTERNAL")
    [entry] = logs
    assert refusal.text == f"the request failed in here; the log knows more under {entry['incident']}"


@pytest.mark.parametrize(
    ("limit", "parameters", "seconds"),
    [
        (None, {}, 1.0),
        (100.0, {}, 30.0),
        (5.0, {}, 5.0),
        (20.0, {"timeout": 500_000}, 0.5),
        (5.0, {"timeout": 10**7}, 5.0),
    ],
)
async def test_who_would_wait_beyond_the_deadline_is_told_when_to_come_again(
    doors: list[Door], tmp_path: Path, limit: float | None, parameters: dict[str, int], seconds: float
) -> None:
    """The deadline is the call's, 1 s if it has none and at most 30 s; the parameter, in microseconds, lowers it."""
    doors.append(door := Door(tmp_path, Always(1.2 * seconds)))
    await door.open(state(1, revision()))
    model = door.world.models["r0"]
    model.held = True
    busy = asyncio.create_task(door.ask(0.5, timeout=60))
    await model.started()
    refusal = await door.refused(door.ask(1.5, timeout=limit, parameters=parameters))
    assert (refusal.code, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert refusal.trailers["retry-after-ms"] == refusal.info.metadata["retry-after-ms"]
    assert int(refusal.info.metadata["retry-after-ms"]) == pytest.approx(1_200 * seconds, abs=1)
    waiting = asyncio.create_task(door.ask(2.5, timeout=2 * seconds + 1))
    if seconds < 30:
        await door.until_waiting(1)
        model.let_go()
        await waiting
    model.let_go()
    await asyncio.wait([busy, waiting])
    assert 1.5 not in model.seen


async def test_who_leaves_or_whose_deadline_passes_never_reaches_the_model(door: Door) -> None:
    model = door.world.models["r0"]
    model.held = True
    busy = asyncio.create_task(door.ask(0.5))
    await model.started()
    leaving = asyncio.create_task(door.ask(1.5))
    await door.until_waiting(1)
    leaving.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await door.ask(2.5, timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    staying = asyncio.create_task(door.ask(3.5))
    await door.until(lambda: [job.x[0, 0] for job in door.lane()._waiting if not job.reply.done()] == [3.5])
    model.let_go()
    await asyncio.gather(busy, staying)
    assert model.seen == [0.5, 3.5]


async def test_failures_count_against_the_revision_and_wrong_input_does_not(door: Door) -> None:
    with capture_logs():
        await door.refused(door.ask(POISON))
    await door.refused(door.infer(raw(("X", matrix(1, 3)))))
    await door.refused(door.ask(0.5, model="nobody"))
    await door.server.stop()
    failed = [PredictionsServed.FromString(bytes(chunk.extra)).failed for chunk in door.world.log.chunks]
    assert [dict(each) for each in failed] == [{"INTERNAL": 1}]


async def test_wrong_input_counts_where_another_revision_might_take_it(doors: list[Door], tmp_path: Path) -> None:
    doors.append(door := Door(tmp_path, Always(SLOW)))
    columns = Column(name="a"), Column(name="b"), Column(name="c")
    door.world.signatures["r1"] = Signature.binary(columns, (0, 1), threshold=0.5)
    await door.open(state(1, revision(), revision("r1", weight=0, slot=1, model_version=2)))
    await door.refused(door.infer(raw(("X", matrix(1, 3)))))
    await door.server.stop()
    [chunk] = door.world.log.chunks
    assert dict(PredictionsServed.FromString(bytes(chunk.extra)).failed) == {"INVALID_ARGUMENT": 1}


async def test_a_routing_key_keeps_its_revision(doors: list[Door], tmp_path: Path) -> None:
    doors.append(door := Door(tmp_path))
    await door.open(state(1, revision(weight=5_000), revision("r1", weight=5_000, slot=1, model_version=2)))
    by_key = {
        key: {(await door.ask(0.5, metadata=(("holdtrue-routing-key", key),))).revision for _ in range(5)}
        for key in map(str, range(20))
    }
    assert {len(revisions) for revisions in by_key.values()} == {1}
    assert set.union(*by_key.values()) == {"r0", "r1"}
    assert len({(await door.ask(0.5)).revision for _ in range(60)}) == 2, "without a key each is routed for itself"
    assert {(await door.ask(0.5, version="2")).revision for _ in range(10)} == {"r1"}
