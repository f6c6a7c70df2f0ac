"""Tumbling windows by prediction time, aligned to the epoch; begin inclusive, end exclusive."""

from collections.abc import Sequence

from holdtrue_stats.arrays import Ints


def align(times_ns: Ints, length_ns: int) -> Ints:
    """Return the begin of the window that each time lies in."""
    return times_ns - times_ns % length_ns


def closed(end_ns: int, watermarks: Sequence[int], now_ns: int, delay_ns: int) -> bool:
    """Whether a window is over: every partition that has data is past its end, or the delay is over by the clock.

    An idle partition therefore never stalls it, a lagging one only for the delay.
    """
    return now_ns >= end_ns + delay_ns or (now_ns >= end_ns and bool(watermarks) and min(watermarks) >= end_ns)
