"""What the commands share: the data folder's option, the exit codes, how an error is shown."""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn

from holdtrue_local.home import home

if TYPE_CHECKING:
    from pathlib import Path


class Exit(IntEnum):
    """Exit codes of the `holdtrue` command that occur here."""

    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 5
    UNREACHABLE = 7
    TIMEOUT = 8
    INTERRUPTED = 130


def chosen(data: Path | None) -> Path:
    """The data folder that the user means."""
    return (data or home()).absolute()


def fail(message: str, code: Exit = Exit.FAILED) -> NoReturn:
    """End with an error message on standard error."""
    print(f"✗ {message}", file=sys.stderr)
    sys.exit(code)
