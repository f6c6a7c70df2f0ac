from __future__ import annotations

from http import HTTPStatus

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from holdtrue_core import errors
from holdtrue_core.errors import FieldViolation, HoldtrueError, InvalidArgument, NotFound, from_rpc_error, to_status

CLASSES = HoldtrueError.__subclasses__()


class Failure(grpc.aio.AioRpcError):
    """A failed call as grpc.aio raises it."""

    def __init__(
        self, code: grpc.StatusCode, details: str | None, trailers: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        super().__init__(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details)


def example(cls: type[HoldtrueError]) -> HoldtrueError:
    return cls(
        "what, where, what to do",
        reason="SPECIAL",
        violations=[FieldViolation("schema.columns[3].dtype", "expected one of …")],
        metadata={"dataset": "d1"},
        hint="holdtrue datasets list",
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_travels_whole(cls: type[HoldtrueError]) -> None:
    sent = example(cls)
    got = from_rpc_error(Failure(sent.code, sent.message, errors.to_trailers(sent)))
    assert type(got) is cls
    assert vars(got) == vars(sent)


def test_the_status_has_the_standard_details() -> None:
    status = to_status(example(InvalidArgument))
    assert (status.code, status.message) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "what, where, what to do")
    info, bad = ErrorInfo(), BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.reason, info.domain) == ("SPECIAL", "holdtrue")
    assert dict(info.metadata) == {"dataset": "d1", "hint": "holdtrue datasets list"}
    assert bad.field_violations[0].field == "schema.columns[3].dtype"


def test_reasons_default_to_the_code() -> None:
    assert NotFound("x").reason == "NOT_FOUND"
    assert len(to_status(NotFound("x")).details) == 1


def test_codes_are_different_and_only_passing_troubles_are_retriable() -> None:
    assert len({cls.code for cls in CLASSES}) == len(CLASSES) == 13
    assert {cls.__name__ for cls in CLASSES if cls.retriable} == {"ResourceExhausted", "Unavailable"}
    assert all(400 <= cls.http_status < 600 for cls in CLASSES)
    assert errors.Conflict.http_status == HTTPStatus.CONFLICT


def test_the_tree_in_the_docstring_is_complete() -> None:
    for cls in CLASSES:
        line = next(line for line in (errors.__doc__ or "").splitlines() if f"── {cls.__name__} " in line)
        assert cls.code.name in line
        assert str(int(cls.http_status)) in line


def test_one_field_is_named_in_message_and_violation() -> None:
    error = InvalidArgument.of("name", "expected letters")
    assert error.message == "name: expected letters"
    assert error.violations == (FieldViolation("name", "expected letters"),)


@pytest.mark.parametrize(
    ("trailers", "reason"),
    [
        ((), "UNAVAILABLE"),
        ((("grpc-status-details-bin", b"\xff\xff"),), "UNAVAILABLE"),
        ((("grpc-status-details-bin", Status(code=14).SerializeToString()),), "UNAVAILABLE"),
    ],
)
def test_errors_of_other_servers_are_read_as_far_as_they_go(
    trailers: tuple[tuple[str, bytes], ...], reason: str
) -> None:
    got = from_rpc_error(Failure(grpc.StatusCode.UNAVAILABLE, "connection refused", trailers))
    assert type(got) is errors.Unavailable
    assert (got.message, got.reason, got.violations, got.retriable) == ("connection refused", reason, (), True)


def test_an_unknown_code_is_internal() -> None:
    got = from_rpc_error(Failure(grpc.StatusCode.DATA_LOSS, None))
    assert type(got) is errors.Internal
    assert got.message == "DATA_LOSS"
    assert type(from_rpc_error(grpc.RpcError("odd"))) is errors.Internal
