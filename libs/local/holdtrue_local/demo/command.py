"""The command `holdtrue demo`."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import time
from functools import partial
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotation
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from holdtrue_local.errors import StartError
from holdtrue_local.home import home

if TYPE_CHECKING:
    from collections.abc import Callable

    from .report import Report

DEFAULT_SEED = 11


def demo(
    *,
    fast: bool = False,
    keep: bool = False,
    report: Annotated[Path | None, Parameter(name="--report")] = None,
    seed: int = DEFAULT_SEED,
) -> int:
    """Show the whole loop on a stream whose truth is known: drift, alert, retraining, roll-out, recovery.

    Everything is real: PostgreSQL, Kafka, all services with unchanged code on the real clock. Only settings are
    shortened, and the first lines say which.

    Examples:
        holdtrue demo
        holdtrue demo --fast --report report.json
        holdtrue demo --keep

    Args:
        fast: Fewer predictions and shorter windows: the same story in at most 90 s.
        keep: Leave the platform up at the end, and its data when Ctrl-C has ended it.
        report: Write the figures as JSON to this file.
        seed: Seed of the stream.

    Returns:
        0 if the loop closed and nothing was lost, otherwise 1.
    """
    from grpc.aio import AioRpcError  # noqa: PLC0415 - only the demo pays for its imports

    from .desk import NotHappenedError  # noqa: PLC0415
    from .pace import FAST, FULL  # noqa: PLC0415
    from .run import Audience, demonstrate  # noqa: PLC0415

    pace = FAST if fast else FULL
    data = home() / f"demo-{secrets.token_hex(4)}"
    audience = Audience(_teller(), partial(_show, file=report), stays=keep)
    audience.say(f"settings   shortened: {', '.join(f'{k} {v}' for k, v in pace.shortened().items())}")
    try:
        closed = asyncio.run(demonstrate(pace, seed, data, audience))
    except (StartError, NotHappenedError) as error:
        sys.stderr.write(f"✗ {error}\n")
        closed = False
    except AioRpcError as error:
        sys.stderr.write(f"✗ a service refused: {error.code().name}: {error.details()}\n")
        closed = False
    except KeyboardInterrupt:
        if not keep:
            shutil.rmtree(data, ignore_errors=True)
        raise
    if not closed:
        sys.stderr.write(f"  what the services said is in {data / 'logs'}\n")
        return 1
    shutil.rmtree(data)
    return 0


def _teller() -> Callable[[str], None]:
    """Return what prints a line of the story with the time since now."""
    began = time.monotonic()

    def say(line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:6.1f} s  {line}\n")
        sys.stdout.flush()

    return say


def _show(result: Report, *, file: Path | None) -> None:
    """Print the table and the verdict; write the report."""
    from .report import table  # noqa: PLC0415 - only the demo pays for its imports

    sys.stdout.write(f"\n{table(result.phases)}\n\n")
    if file is not None:
        result.write(file)
    for end in result.open_ends:
        sys.stdout.write(f"✗ {end}\n")
    sys.stdout.write(
        f"  {result.quarantine.in_quarantine} of {result.quarantine.planted} bad records are in quarantine\n"
    )
    if result.closed_loop:
        sys.stdout.write(f"✓ the loop closed in {result.seconds:.0f} s; nothing was lost or counted twice\n")
    sys.stdout.flush()
