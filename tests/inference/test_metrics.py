"""What Prometheus is told adds up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from holdtrue_inference.metrics import InferenceCollector, Traffic
from holdtrue_inference.store.spool import Limits, Usage
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_700_000_000_000_000_000
REQUESTS = "holdtrue_inference_requests_total"
DURATION = "holdtrue_inference_request_duration_seconds"
Samples = dict[tuple[str, str], float]


def scraped(traffic: Traffic, usage: Usage | None = None) -> Samples:
    """Samples by name and the value of their one label, as a scrape reads them."""
    limits = Limits(cap_bytes=1_000)
    registry = CollectorRegistry()
    registry.register(InferenceCollector(traffic, usage or Usage(limits), limits))
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def buckets(samples: Samples) -> list[tuple[float, float]]:
    """Upper bounds in seconds with the requests up to them."""
    return sorted((float(bound), value) for (name, bound), value in samples.items() if name == f"{DURATION}_bucket")


def answered(waits_ns: Sequence[int]) -> Traffic:
    traffic = Traffic()
    traffic.answered([NOW - wait for wait in waits_ns], NOW)
    return traffic


@settings(max_examples=40)
@given(st.lists(st.integers(0, 10**12), max_size=20))
def test_every_bucket_has_the_requests_up_to_its_bound(waits_ns: list[int]) -> None:
    samples = scraped(answered(waits_ns))
    for bound, count in buckets(samples):
        assert count == sum(math.isinf(bound) or wait // 1_000 < round(bound * 1e6) for wait in waits_ns)
    assert samples[f"{DURATION}_count", ""] == len(waits_ns)
    assert samples[REQUESTS, "OK"] == len(waits_ns)
    assert math.isclose(samples[f"{DURATION}_sum", ""], sum(waits_ns) / 1e9, abs_tol=1e-9)


def test_the_bounds_are_the_octaves_from_a_microsecond() -> None:
    bounds = [bound for bound, _ in buckets(scraped(Traffic()))]
    assert bounds == [*(2**octave / 1e6 for octave in range(25)), math.inf]


def test_a_clock_that_was_set_back_is_no_negative_time() -> None:
    samples = scraped(answered([-(10**9)]))
    assert samples[f"{DURATION}_sum", ""] == 0
    assert samples[f"{DURATION}_bucket", "1e-06"] == 1


def test_failures_are_counted_by_code() -> None:
    traffic = answered([5_000])
    for code in ("NOT_FOUND", "INTERNAL", "NOT_FOUND"):
        traffic.failed(code)
    samples = scraped(traffic)
    assert {code: value for (name, code), value in samples.items() if name == REQUESTS} == {
        "OK": 1,
        "NOT_FOUND": 2,
        "INTERNAL": 1,
    }


def test_the_spool_is_told_with_its_limit_and_its_age() -> None:
    usage = Usage(Limits(cap_bytes=1_000), present=30)
    usage.emptied_at -= 60
    samples = scraped(Traffic(), usage)
    assert samples["holdtrue_spool_bytes", ""] == 30
    assert samples["holdtrue_spool_limit_bytes", ""] == 1_000
    assert samples["holdtrue_spool_oldest_age_seconds", ""] >= 60
