"""Waiting for what happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from holdtrue.errors import DeadlineExceeded

T = TypeVar("T")
Progress = Callable[[str], None]
"""Hears, many times, where something is."""
_POLL_SECONDS = 0.2


def silent(_text: str) -> None:
    """Hear nothing."""


def until(look: Callable[[], T | None], timeout: float, what: str) -> T:
    """Return what `look` returns as soon as it is something; raises DeadlineExceeded after `timeout` seconds."""
    end = time.monotonic() + timeout
    while (found := look()) is None:
        if time.monotonic() > end:
            raise DeadlineExceeded(f"{what} is not finished after {timeout:g} s; it goes on, ask again later")
        time.sleep(_POLL_SECONDS)
    return found
