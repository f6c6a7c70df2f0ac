"""Labels that contradict the estimates take them out of use, until later labels bear them out again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.common.v1.measures_pb2 import (
    MEASURE_KIND_ESTIMATED,
    MEASURE_STATUS_INVALID,
    MEASURE_STATUS_OK,
    Measure,
)
from holdtrue_contracts.monitor.v1.alerts_pb2 import SEVERITY_WARNING
from holdtrue_contracts.monitor.v1.monitor_service_pb2 import SubscribeRequest

from tests.component.monitor.harness import PERSON, Inference
from tests.component.monitor.test_alerts import BEGINNING, SECOND, hour_ago, live, next_of
from tests.component.monitor.test_counting import settled, truth

if TYPE_CHECKING:
    from tests.component.monitor.harness import Batch, Platform


@pytest.mark.timeout(180)
async def test_labels_take_the_estimate_out_of_use_and_back(platform: Platform) -> None:
    await platform.serve()
    service = await platform.start()
    inference, begin = Inference(), hour_ago()
    good = await live(platform, inference, begin, 2)
    await settled(platform, good, _labels(good))
    assert (await _estimated(platform)).status == MEASURE_STATUS_OK

    stream = platform.alerts.Subscribe(SubscribeRequest(resume_token=BEGINNING), metadata=PERSON)
    await live(platform, inference, begin + 2 * SECOND, 2, precise=False)
    raised = await next_of(stream, "estimate.invalid")
    assert (raised.change, raised.alert.severity) == ("raised", SEVERITY_WARNING)
    assert raised.alert.retrain_evidence.estimate_invalid
    assert "contradict the estimated precision" in raised.alert.title
    assert raised.alert.measure.n >= 50
    estimated = await _estimated(platform)
    assert estimated.status == MEASURE_STATUS_INVALID
    assert estimated.value == pytest.approx(0.75, abs=0.03)

    await service.kill()
    await service.start()
    await service.ready()
    stream = platform.alerts.Subscribe(SubscribeRequest(resume_token=raised.resume_token), metadata=PERSON)
    await live(platform, inference, begin + 4 * SECOND, 5)
    notification = raised
    while notification.change != "resolved":
        notification = await next_of(stream, "estimate.invalid")
    assert (await _estimated(platform)).status == MEASURE_STATUS_OK


async def _estimated(platform: Platform) -> Measure:
    measures = (await platform.figures()).measures
    return next(m for m in measures if (m.name, m.kind) == ("precision", MEASURE_KIND_ESTIMATED))


def _labels(batches: list[Batch]) -> dict[str, float]:
    return {name: label for batch in batches for name, label in truth([batch]).items()}
