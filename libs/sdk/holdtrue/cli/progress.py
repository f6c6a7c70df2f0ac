"""Where something is, on standard error: one line that changes on a terminal, one line a change elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@contextmanager
def progress(what: str) -> Generator[Callable[[str], None]]:
    """Give a function that says where `what` is; equal texts in a row are said once."""
    terminal = sys.stderr.isatty()
    last = ""

    def say(text: str) -> None:
        nonlocal last
        if text != last:
            sys.stderr.write(f"\r\x1b[K{what}: {text}" if terminal else f"{what}: {text}\n")
            sys.stderr.flush()
            last = text

    try:
        yield say
    finally:
        if terminal and last:
            sys.stderr.write("\r\x1b[K")
