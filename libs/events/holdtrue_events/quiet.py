"""During an outage aiokafka writes thousands of lines that say the same: a few are enough."""

from __future__ import annotations

import logging
import time
from functools import cache

_TEMPLATES = 1_000  # remembered at most


class RateLimit(logging.Filter):
    """Lets each kind of line (logger, template) pass `burst` times in `seconds`, then tells how many it held back."""

    def __init__(self, burst: int = 3, seconds: float = 30.0) -> None:
        """Set the limit."""
        super().__init__()
        self._burst = burst
        self._seconds = seconds
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide about one line."""
        now, kind = time.monotonic(), (record.name, str(record.msg))
        began, count = self._windows.get(kind, (now, 0))
        if now - began > self._seconds:
            if count > self._burst:
                record.msg, record.args = f"{record.getMessage()} ({count - self._burst} more like it)", None
            began, count = now, 0
        if len(self._windows) >= _TEMPLATES:
            self._windows.clear()
        self._windows[kind] = (began, count + 1)
        return count < self._burst


@cache
def quieten_aiokafka() -> None:
    """Limit all loggers of aiokafka, once in a process; a filter on the parent would not see their lines."""
    limit = RateLimit()
    for name in list(logging.Logger.manager.loggerDict):
        if name.split(".", 1)[0] == "aiokafka":
            logging.getLogger(name).addFilter(limit)
