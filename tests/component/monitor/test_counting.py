"""Every prediction and label counts once, whatever comes, in whatever order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.common.v1.measures_pb2 import MEASURE_KIND_ESTIMATED, MEASURE_KIND_REALISED
from holdtrue_contracts.dead_letter import REPLAY
from holdtrue_events.outbox import unpack_headers

from tests.component.events.harness import send_unreadable
from tests.component.monitor.harness import NAME, Inference, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdtrue_contracts.common.v1.measures_pb2 import Measure
    from holdtrue_contracts.monitor.v1.monitor_service_pb2 import RevisionHealth

    from tests.component.monitor.harness import Batch, Platform


def precision(health: RevisionHealth, kind: int) -> Measure:
    return next(m for m in health.measures if m.name == "precision" and m.kind == kind)


def truth(batches: list[Batch]) -> dict[str, int]:
    """A label for every prediction: 1 with the probability that the score says."""
    inference = Inference(seed=77)
    return {
        name: int(inference.random.random() < score)
        for batch in batches
        for name, score in zip(batch.ids, batch.scores, strict=True)
    }


def expected(batches: list[Batch], labels: Mapping[str, float]) -> tuple[int, int, int, float]:
    """Rows, flagged rows, labels, and realised precision, counted without the monitor."""
    flags = {name: flag for batch in batches for name, flag in zip(batch.ids, batch.flagged, strict=True)}
    known = {name: value for name, value in labels.items() if not math.isnan(value)}
    hits = [value for name, value in known.items() if flags[name]]
    return len(flags), sum(flags.values()), len(known), sum(hits) / len(hits) if hits else math.nan


async def settled(platform: Platform, batches: list[Batch], labels: Mapping[str, float]) -> RevisionHealth:
    """Wait until the monitor has counted exactly what was sent."""
    rows, flagged, labelled, realised = expected(batches, labels)

    async def counted() -> RevisionHealth | None:
        health = await platform.figures()
        if (health.rows, health.labelled) != (rows, labelled):
            return None
        right = precision(health, MEASURE_KIND_REALISED).value == pytest.approx(realised, nan_ok=True)
        return health if right and precision(health, MEASURE_KIND_ESTIMATED).n == flagged else None

    return await until(counted, f"{rows} rows, {flagged} flagged, {labelled} labels, precision {realised}")


async def test_predictions_and_late_labels_become_windows(platform: Platform) -> None:
    await platform.serve()
    await platform.start()
    inference = Inference()
    batches = [inference.batch(40) for _ in range(10)]
    for batch in batches:
        await platform.publish(batch.message, batch.message.batch_id)
    health = await settled(platform, batches, {})
    assert (health.deployment_name, health.label_completeness) == (NAME, 0)
    estimated = precision(health, MEASURE_KIND_ESTIMATED)
    assert estimated.value == pytest.approx(0.75, abs=0.03)
    assert estimated.lower < estimated.value < estimated.upper

    async def closed() -> bool:
        events = await platform.events("evaluations.v1")
        newest = {event.data.from_ns: event.data.rows for event in events}  # a batch that came late restates its window
        return sum(newest.values()) == health.rows

    await until(closed, "the windows are closed")
    labels = truth(batches)
    await platform.label(list(labels.items()))
    health = await settled(platform, batches, labels)
    assert health.label_completeness == 1

    async def restated() -> bool:
        latest: dict[int, tuple[int, int]] = {}
        for event in await platform.events("evaluations.v1"):
            seen = event.data.restatement, event.data.labelled
            latest[event.data.from_ns] = max(latest.get(event.data.from_ns, (-1, 0)), seen)
        return sum(labelled for _, labelled in latest.values()) == len(labels)

    await until(restated, "windows are restated with their labels")


async def test_duplicates_and_resends_count_once(platform: Platform) -> None:
    await platform.serve()
    await platform.start()
    inference = Inference()
    batches = [inference.batch() for _ in range(30)]
    for batch in batches[:20]:
        await platform.publish(batch.message, batch.message.batch_id)
    for batch in batches:  # the spool was not told that the first twenty had arrived
        await platform.publish(batch.message, batch.message.batch_id)
    labels = truth(batches)
    for _ in range(2):
        await platform.label(list(labels.items()))
    await settled(platform, batches, labels)


async def test_poison_becomes_a_dead_letter_and_stops_nothing(platform: Platform) -> None:
    await platform.serve()
    await platform.start()
    inference = Inference()
    good, bad = inference.batch(), inference.batch()
    await platform.publish(good.message)
    for _ in range(24):  # every partition gets some
        await platform.raw("predictions.v1", None, b"\xff\xfe no event")
        await platform.raw("predictions.v1", b"default/x", None, [("ce_id", b"1")])
    unreadable = [await send_unreadable(platform.kafka, "predictions.v1", partition) for partition in (0, 0, 1)]
    bad.message.rows += 1
    await platform.publish(bad.message)
    stranger = inference.batch()
    stranger.message.deployment_id = "nobody"
    await platform.publish(stranger.message)
    await platform.raw("labels.v1", b"default/3", b"\xff", [("ce_type", b"holdtrue.monitor.v1.LabelsObserved")])
    forged = good.ids[0][:-1] + ("0" if good.ids[0][-1] != "0" else "1")
    after = [inference.batch() for _ in range(24)]
    for batch in after:
        await platform.publish(batch.message)
    labels: dict[str, float] = dict(truth([good, *after]))
    await platform.label([*labels.items(), (forged, 1.0), ("nonsense", 1.0)])
    await settled(platform, [good, *after], labels)

    async def letters() -> dict[str, int]:
        rows = await platform.query("SELECT reason, count(*) AS n FROM dead_letter GROUP BY reason")
        return {row["reason"]: row["n"] for row in rows}

    found = await letters()
    assert found["malformed"] == 1
    assert found["unknown_origin"] == 1
    assert found["faulty_labels"] in {1, 2}
    assert sum(found.values()) == 48 + 1 + 1 + 1 + len(unreadable) + found["faulty_labels"]

    [letter] = await platform.query("SELECT * FROM dead_letter WHERE reason = 'malformed'")
    replay = (REPLAY, f"{letter['consumer']}/{letter['id']}".encode())
    for _ in range(2):
        await platform.raw(
            letter["topic"], letter["key"], letter["value"], [*unpack_headers(letter["headers"]), replay]
        )
    read = "SELECT 1 FROM dead_letter WHERE reason = 'malformed' AND replayed_at IS NOT NULL"
    await until(lambda: platform.query(read), "the replay")
    assert (await letters())["malformed"] == 2, "it failed again, once"


async def test_labels_end_alike_in_any_order(platform: Platform) -> None:
    await platform.serve()
    await platform.start()
    inference = Inference()
    batches = [inference.batch(30) for _ in range(4)]
    first = truth(batches)
    names = list(first)
    await platform.label([(name, first[name]) for name in names[:60]])  # before their predictions
    final: dict[str, float] = dict(first)
    revised = {name: float(1 - first[name]) for name in names[::3]}
    withdrawn = dict.fromkeys(names[1::7], math.nan)
    await platform.label(list(revised.items()), revision=1)  # a revision before what it revises
    for batch in batches:
        await platform.publish(batch.message)
    await platform.label(list(withdrawn.items()), revision=2)
    await platform.label(list(first.items()))
    await platform.label(list(revised.items()), revision=1)
    await settled(platform, batches, final | revised | withdrawn)


async def test_labels_by_external_id_find_their_predictions(platform: Platform) -> None:
    await platform.serve()
    await platform.start()
    inference = Inference()
    names = [f"order-{i}" for i in range(40)]
    early = {name: float(i % 2) for i, name in enumerate(names[:20])}
    await platform.label(list(early.items()), external=True)
    batch = inference.batch(40, rows=1, externals=names)
    await platform.publish(batch.message)
    late = {name: float(i % 3 == 0) for i, name in enumerate(names[20:])}
    await platform.label(list(late.items()), external=True)
    ids = dict(zip(names, batch.ids, strict=True))
    labels = {ids[name]: value for name, value in (early | late).items()}
    await settled(platform, [batch], labels)
    again = {name: 1.0 - value for name, value in early.items()}
    await platform.label(list(again.items()), revision=1, external=True)
    await settled(platform, [batch], labels | {ids[name]: value for name, value in again.items()})


async def test_predictions_wait_for_what_they_refer_to(platform: Platform) -> None:
    """All is in Kafka before the monitor starts, which then reads it in no particular order."""
    await platform.serve()
    inference = Inference()
    batches = [inference.batch() for _ in range(20)]
    for batch in batches:
        await platform.publish(batch.message)
    labels = truth(batches)
    await platform.label(list(labels.items()))
    await platform.start()
    await settled(platform, batches, labels)
    assert not await platform.query("SELECT 1 FROM dead_letter")
