"""What the commands share: the data folder's option, how an error is shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from holdtrue.cli.exits import Exit

from holdtrue_local.home import home

if TYPE_CHECKING:
    from pathlib import Path


def chosen(data: Path | None) -> Path:
    """The data folder that the user means."""
    return (data or home()).absolute()


def fail(message: str, code: Exit = Exit.FAILED) -> NoReturn:
    """End with an error message on standard error."""
    print(f"✗ {message}", file=sys.stderr)
    sys.exit(code)
