"""Exit codes: stable, for scripts."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Why the command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    CONFLICT = 5
    REFUSED = 6
    """A gate or a validation failed."""
    UNREACHABLE = 7
    TIMEOUT = 8
    CONDITION = 9
    """The condition that was asked for is true (`alerts list --exit-code`)."""
    INTERRUPTED = 130


class UsageError(Exception):
    """The arguments make no sense together; the text says what to write instead."""
