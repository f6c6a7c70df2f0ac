"""`holdtrue logs`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from holdtrue.cli.exits import Exit

from .common import chosen, fail

if TYPE_CHECKING:
    from io import TextIOWrapper

_POLL_SECONDS = 0.2


def logs(
    service: str | None = None,
    /,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative=())] = False,
    lines: Annotated[int, Parameter(name=["--lines", "-n"], validator=Number(gte=0, lte=1_000_000))] = 50,
    data: Path | None = None,
) -> None:
    """Show what a program of the platform wrote, or with no name what all of them wrote, each line with its name.

    Examples:
        holdtrue logs trainer -f
        holdtrue logs -n 5

    Args:
        service: A service, `kafka`, `postgres`, `migrate` or `up`.
        follow: Go on with new lines until Ctrl-C.
        lines: How many old lines of each.
        data: The data folder, by default ~/.local/share/holdtrue.
    """
    folder = chosen(data) / "logs"
    known = sorted(path.stem for path in folder.glob("*.log"))
    if not known:
        fail(f"there are no logs in {folder}; start the platform with `holdtrue up`", Exit.NOT_FOUND)
    if service and service not in known:
        fail(f"there is no log of {service!r}; there are {', '.join(known)}", Exit.NOT_FOUND)
    names = [service] if service else known
    followed = [_Log(name, folder / f"{name}.log", prefix=not service) for name in names]
    for log in followed:
        log.show_last(lines)
    while follow:
        time.sleep(_POLL_SECONDS)
        for log in followed:
            log.show_new()


class _Log:
    """One log file that is read as it grows; it may be cut off at any time (`rotate`)."""

    def __init__(self, name: str, path: Path, *, prefix: bool) -> None:
        self._path = path
        self._file: TextIOWrapper = path.open(errors="replace")
        self._prefix = f"{name:<10} " if prefix else ""

    def show_last(self, lines: int) -> None:
        self._show(self._file.readlines()[-lines:] if lines > 0 else [])

    def show_new(self) -> None:
        if self._path.stat().st_size < self._file.tell():
            self._file.seek(0)
        self._show(self._file.readlines())

    def _show(self, lines: list[str]) -> None:
        for line in lines:
            sys.stdout.write(self._prefix + line)
        sys.stdout.flush()
