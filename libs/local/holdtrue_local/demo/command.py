"""The command `holdtrue demo`."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import time
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotation
from typing import Annotated

from cyclopts import Parameter

from holdtrue_local.errors import StartError
from holdtrue_local.home import home

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
        keep: Leave the platform and its data at the end; Ctrl-C ends it.
        report: Write the figures as JSON to this file.
        seed: Seed of the stream.

    Returns:
        0 if the loop closed and nothing was lost, otherwise 1.
    """
    from .pace import FAST, FULL  # noqa: PLC0415 - only the demo pays for its imports
    from .report import table  # noqa: PLC0415
    from .run import demonstrate  # noqa: PLC0415

    pace = FAST if fast else FULL
    data = home() / f"demo-{secrets.token_hex(4)}"
    began = time.monotonic()

    def say(line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:6.1f} s  {line}\n")
        sys.stdout.flush()

    say(f"settings   shortened: {', '.join(f'{k} {v}' for k, v in pace.shortened().items())}")
    try:
        result = asyncio.run(demonstrate(pace, seed, data, say, wait=keep))
    except StartError as error:
        sys.stderr.write(f"✗ the demonstration could not start: {error}\n")
        return 1
    finally:
        if not keep:
            shutil.rmtree(data, ignore_errors=True)
    sys.stdout.write(f"\n{table(result.phases)}\n\n")
    if report is not None:
        result.write(report)
    return _verdict(result.open_ends, result.seconds)


def _verdict(open_ends: list[str], seconds: float) -> int:
    if not open_ends:
        sys.stdout.write(f"✓ the loop closed in {seconds:.0f} s; nothing was lost or counted twice\n")
        return 0
    for end in open_ends:
        sys.stdout.write(f"✗ {end}\n")
    return 1
