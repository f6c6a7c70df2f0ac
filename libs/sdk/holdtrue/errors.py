"""What calls raise: the platform's errors, and the two that only the SDK finds out. All have `.hint` and `.reason`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_core.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    HoldtrueError,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    from_rpc_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "AlreadyExists",
    "Conflict",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "GateFailed",
    "HoldtrueError",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "RunFailed",
    "Unavailable",
    "from_rpc_error",
    "with_row",
    "wrong_row",
]


class GateFailed(FailedPrecondition):
    """A version was trained, and its gate did not let it pass; the message has each check's reason."""


class RunFailed(FailedPrecondition):
    """A training run ended without a model."""


ROW = "row"
"""Key of an error's metadata with the number of the row that is wrong, from 0; the message names it "row N"."""


def wrong_row(row: int, fault: str, reason: str) -> InvalidArgument:
    """Return the error of one row; `fault` goes on from its name."""
    return InvalidArgument(f"row {row}{fault}", reason=reason, metadata={ROW: str(row)})


def with_row(error: InvalidArgument, name: Callable[[int], tuple[int, str]]) -> InvalidArgument:
    """Return an error about a row of a part as one about the whole; any other error as it is.

    `name` gives a row's number in the whole and what to call it, in the place of "row N".
    """
    if ROW not in error.metadata:
        return error
    number = int(error.metadata[ROW])
    moved, text = name(number)
    return InvalidArgument(
        error.message.replace(f"row {number}", text, 1),
        reason=error.reason,
        violations=error.violations,
        metadata=error.metadata | {ROW: str(moved)},
        hint=error.hint,
    )
