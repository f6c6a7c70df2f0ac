"""Tell people what is being downloaded, started, awaited: a live table on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@contextmanager
def progress() -> Generator[Callable[[str, str], None]]:
    """Give a function `report(name, text)`; what it hears goes to standard error."""
    if sys.stderr.isatty():
        with _table() as report:
            yield report
    else:
        yield plain


def plain(name: str, text: str) -> None:
    """One line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {name:<10} {text}", file=sys.stderr, flush=True)  # noqa: T201  people read it


@contextmanager
def _table() -> Generator[Callable[[str, str], None]]:
    from rich.console import Console  # noqa: PLC0415  only a terminal needs it
    from rich.live import Live  # noqa: PLC0415
    from rich.spinner import Spinner  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    rows: dict[str, str] = {}

    def draw() -> Table:
        table = Table.grid(padding=(0, 1))
        for name, text in rows.items():
            mark = Text("✓", "green") if text.startswith("ready") else Spinner("dots")
            table.add_row(mark, name, Text(text, "dim"))
        return table

    with Live(console=Console(stderr=True), refresh_per_second=12, get_renderable=draw):

        def report(name: str, text: str) -> None:
            rows[name] = text

        yield report
