"""All errors that a caller may see.

    HoldtrueError
    ├── InvalidArgument       INVALID_ARGUMENT     422   the input is wrong; `violations` say where
    ├── NotFound              NOT_FOUND            404
    ├── AlreadyExists         ALREADY_EXISTS       409
    ├── FailedPrecondition    FAILED_PRECONDITION  409   right input, wrong time or state
    ├── Conflict              ABORTED              409   somebody else changed it; read again and repeat
    ├── Unauthenticated       UNAUTHENTICATED      401
    ├── PermissionDenied      PERMISSION_DENIED    403
    ├── ResourceExhausted     RESOURCE_EXHAUSTED   429   too much, too fast; retriable
    ├── Unavailable           UNAVAILABLE          503   not now; retriable
    ├── DeadlineExceeded      DEADLINE_EXCEEDED    504
    ├── Cancelled             CANCELLED            499
    ├── Unimplemented         UNIMPLEMENTED        501
    └── Internal              INTERNAL             500   our fault; the message has only an id

Every message says what was wrong, where, and what to do. `reason` is a stable word for programs.
On the wire an error is a google.rpc.Status with ErrorInfo (reason, domain, metadata) and BadRequest (violations).
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.protobuf.message import Message

DOMAIN = "holdtrue"
"""Domain of the reasons in ErrorInfo."""
_DETAILS_KEY = "grpc-status-details-bin"
_HINT = "hint"
_CLIENT_CLOSED_REQUEST = 499


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field, named by its path in the request, for example `schema.columns[3].dtype`."""

    field: str
    description: str


class HoldtrueError(Exception):
    """Base of all errors that a caller may see."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    http_status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    retriable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        hint: str = "",
    ) -> None:
        """Say what was wrong, where, and what to do; `hint` may name the command or call that helps.

        `reason` defaults to the name of the gRPC code. `metadata` goes to the caller: no secrets in it.
        """
        super().__init__(message)
        self.message = message
        self.reason = reason or self.code.name
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.hint = hint


class InvalidArgument(HoldtrueError):
    """The input is wrong and will stay so."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    http_status = HTTPStatus.UNPROCESSABLE_ENTITY

    @classmethod
    def of(cls, field: str, description: str) -> InvalidArgument:
        """Return the error for one field."""
        return cls(f"{field}: {description}", violations=[FieldViolation(field, description)])


class NotFound(HoldtrueError):
    """There is no such thing, or the caller may not know of it."""

    code = grpc.StatusCode.NOT_FOUND
    http_status = HTTPStatus.NOT_FOUND


class AlreadyExists(HoldtrueError):
    """A thing with that name exists."""

    code = grpc.StatusCode.ALREADY_EXISTS
    http_status = HTTPStatus.CONFLICT


class FailedPrecondition(HoldtrueError):
    """The input is right, but the state of the thing does not allow it now."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    http_status = HTTPStatus.CONFLICT


class Conflict(HoldtrueError):
    """Somebody else changed it meanwhile: read it again and repeat."""

    code = grpc.StatusCode.ABORTED
    http_status = HTTPStatus.CONFLICT


class Unauthenticated(HoldtrueError):
    """Nobody knows who the caller is."""

    code = grpc.StatusCode.UNAUTHENTICATED
    http_status = HTTPStatus.UNAUTHORIZED


class PermissionDenied(HoldtrueError):
    """The caller may not do that."""

    code = grpc.StatusCode.PERMISSION_DENIED
    http_status = HTTPStatus.FORBIDDEN


class ResourceExhausted(HoldtrueError):
    """Too much or too fast; later it may work."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    http_status = HTTPStatus.TOO_MANY_REQUESTS
    retriable = True


class Unavailable(HoldtrueError):
    """Not possible at the moment; later it will work."""

    code = grpc.StatusCode.UNAVAILABLE
    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    retriable = True


class DeadlineExceeded(HoldtrueError):
    """It took longer than the caller allowed; it may still have happened."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    http_status = HTTPStatus.GATEWAY_TIMEOUT


class Cancelled(HoldtrueError):
    """The caller went away."""

    code = grpc.StatusCode.CANCELLED
    http_status = _CLIENT_CLOSED_REQUEST


class Unimplemented(HoldtrueError):
    """The other side does not have that."""

    code = grpc.StatusCode.UNIMPLEMENTED
    http_status = HTTPStatus.NOT_IMPLEMENTED


class Internal(HoldtrueError):
    """Our fault. What the caller sees names only an id that is in the log."""

    code = grpc.StatusCode.INTERNAL


_CLASSES: Mapping[grpc.StatusCode, type[HoldtrueError]] = {cls.code: cls for cls in HoldtrueError.__subclasses__()}


def to_status(error: HoldtrueError) -> Status:
    """Return the error as it travels."""
    status = Status(code=_number(error.code), message=error.message)
    metadata = error.metadata | ({_HINT: error.hint} if error.hint else {})
    _add(status, ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if error.violations:
        entries = [BadRequest.FieldViolation(field=v.field, description=v.description) for v in error.violations]
        _add(status, BadRequest(field_violations=entries))
    return status


def to_trailers(error: HoldtrueError) -> tuple[tuple[str, bytes]]:
    """Return the trailing metadata that carry the error's details: the third argument of a gRPC `abort`."""
    return ((_DETAILS_KEY, to_status(error).SerializeToString()),)


def from_rpc_error(error: grpc.RpcError) -> HoldtrueError:
    """Return the error that a call failed with, whoever answered it."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return Internal(str(error))
    code = error.code()
    cls = _CLASSES.get(code, Internal)
    info, bad = ErrorInfo(), BadRequest()
    for detail in _details(error.trailing_metadata() or ()):
        _ = detail.Unpack(info) or detail.Unpack(bad)
    violations = [FieldViolation(v.field, v.description) for v in bad.field_violations]
    metadata = dict(info.metadata)
    hint = metadata.pop(_HINT, "")
    text = error.details() or code.name
    return cls(text, reason=info.reason, violations=violations, metadata=metadata, hint=hint)


def _number(code: grpc.StatusCode) -> int:
    return Code.Value(code.name)


def _add(status: Status, detail: Message) -> None:
    status.details.add().Pack(detail)


def _details(trailers: Iterable[tuple[str, str | bytes]]) -> Sequence[AnyMessage]:
    """Return the details in the trailers; none where they are missing or not ours to read."""
    raw = next((value for key, value in trailers if key == _DETAILS_KEY), b"")
    try:
        return Status.FromString(raw).details if isinstance(raw, bytes) else ()
    except DecodeError:
        return ()
