"""How a failed command ends: a sentence with what to do, and an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING

from holdtrue.cli.exits import Exit, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import CycloptsError

    from holdtrue.errors import HoldtrueError

_STRUCTURED = {"json", "ndjson"}


def report(error: Exception, arguments: Sequence[str]) -> int:
    """Tell what went wrong on standard error; return the exit code."""
    from holdtrue.errors import HoldtrueError  # noqa: PLC0415  it loads grpc

    if isinstance(error, UsageError):
        return _usage(str(error), "", arguments)
    if not isinstance(error, HoldtrueError):
        traceback.print_exception(error)
        _say(f"holdtrue itself failed: {error!r}; this is a fault of ours", "")
        return Exit.FAILED
    if _structured(arguments):
        sys.stderr.write(json.dumps(_document(error)) + "\n")
    else:
        _say(error.message, error.hint)
    return exit_code(error)


def misused(error: CycloptsError, arguments: Sequence[str]) -> int:
    """Tell which word of the command line is wrong and where it is explained; return the exit code."""
    command = " ".join(["holdtrue", *(error.command_chain or ())])
    return _usage(str(error), f"{command} --help", arguments)


def pipe_closed() -> int:
    """Whoever read our output has enough: end without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.FAILED


def exit_code(error: HoldtrueError) -> int:
    """Return the exit code of an error."""
    from grpc import StatusCode  # noqa: PLC0415

    from holdtrue.errors import GateFailed, RunFailed  # noqa: PLC0415

    if isinstance(error, GateFailed):
        return Exit.REFUSED
    if isinstance(error, RunFailed):
        return Exit.FAILED
    codes = {
        StatusCode.INVALID_ARGUMENT: Exit.REFUSED,
        StatusCode.NOT_FOUND: Exit.NOT_FOUND,
        StatusCode.PERMISSION_DENIED: Exit.NOT_ALLOWED,
        StatusCode.UNAUTHENTICATED: Exit.NOT_ALLOWED,
        StatusCode.ALREADY_EXISTS: Exit.CONFLICT,
        StatusCode.FAILED_PRECONDITION: Exit.CONFLICT,
        StatusCode.ABORTED: Exit.CONFLICT,
        StatusCode.UNAVAILABLE: Exit.UNREACHABLE,
        StatusCode.DEADLINE_EXCEEDED: Exit.TIMEOUT,
    }
    return codes.get(error.code, Exit.FAILED)


def _usage(message: str, hint: str, arguments: Sequence[str]) -> int:
    if _structured(arguments):
        document = {"error": message, "code": "USAGE", "reason": "USAGE", "retryable": False, "next": hint}
        sys.stderr.write(json.dumps(document) + "\n")
    else:
        _say(message, hint)
    return Exit.USAGE


def _structured(arguments: Sequence[str]) -> bool:
    return any(word.rpartition("=")[2] in _STRUCTURED for word in arguments)


def _say(message: str, hint: str) -> None:
    first, *rest = message.splitlines() or [""]
    lines = [f"✗ {first}", *(f"  {line}" for line in rest), *([f"→ {hint}"] if hint else [])]
    sys.stderr.write("\n".join(lines) + "\n")


def _document(error: HoldtrueError) -> dict[str, object]:
    return {
        "error": error.message,
        "code": error.code.name,
        "reason": error.reason,
        "retryable": error.retriable,
        "next": error.hint,
        "violations": [{"field": v.field, "description": v.description} for v in error.violations],
    }
