"""What Prometheus is told of inference. Counting costs a few additions a request; the rest happens at a scrape."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdtrue_inference.store.spool import Limits, Usage

_OCTAVES = 26  # of microseconds: up to a minute
_MICROSECOND = 1_000


class Traffic:
    """Requests by gRPC code, and how long the answered ones took."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.codes: Counter[str] = Counter()
        self.octaves = [0] * _OCTAVES
        """Answered requests whose microseconds have so many binary digits."""
        self.seconds = 0.0

    def answered(self, arrivals_ns: Iterable[int], now_ns: int) -> None:
        """Count answered requests by when they arrived."""
        for arrival in arrivals_ns:
            waited = max(now_ns - arrival, 0)
            self.octaves[min((waited // _MICROSECOND).bit_length(), _OCTAVES - 1)] += 1
            self.seconds += waited / 1e9

    def failed(self, code: str) -> None:
        """Count a request that was answered with an error."""
        self.codes[code] += 1


class InferenceCollector(Collector):
    """Reads traffic and spool at a scrape."""

    def __init__(self, traffic: Traffic, usage: Usage, limits: Limits) -> None:
        """Take what is read."""
        self._traffic, self._usage, self._limits = traffic, usage, limits

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        requests = CounterMetricFamily("holdtrue_inference_requests", "Requests by gRPC code.", labels=["code"])
        requests.add_metric(["OK"], sum(self._traffic.octaves))
        for code, count in self._traffic.codes.items():
            requests.add_metric([code], count)
        yield requests
        yield HistogramMetricFamily(
            "holdtrue_inference_request_duration_seconds",
            "Time from arrival to reply of answered requests.",
            buckets=_buckets(self._traffic.octaves),
            sum_value=self._traffic.seconds,
        )
        yield GaugeMetricFamily("holdtrue_spool_bytes", "Bytes that wait for Kafka.", self._usage.bytes)
        yield GaugeMetricFamily("holdtrue_spool_limit_bytes", "Bytes that may wait.", self._limits.cap_bytes)
        yield GaugeMetricFamily(
            "holdtrue_spool_oldest_age_seconds", "Since Kafka last had everything.", self._usage.waiting_seconds
        )


def _buckets(octaves: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    result: list[tuple[str, float]] = []
    for digits, count in enumerate(octaves[:-1]):
        total += count
        result.append((repr(2**digits / 1e6), total))
    return [*result, ("+Inf", total + octaves[-1])]
