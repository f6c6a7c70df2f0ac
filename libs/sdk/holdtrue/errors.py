"""What calls raise: the platform's errors, and the two that only the SDK finds out. All have `.hint` and `.reason`."""

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
]


class GateFailed(FailedPrecondition):
    """A version was trained, and its gate did not let it pass; the message has each check's reason."""


class RunFailed(FailedPrecondition):
    """A training run ended without a model."""
