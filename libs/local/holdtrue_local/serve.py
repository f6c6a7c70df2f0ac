"""Run the platform until it is told to stop. Also the program that `up --detach` leaves behind."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import StartError
from .platform import Options, Platform
from .progress import plain

if TYPE_CHECKING:
    from collections.abc import Callable

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def serve(
    options: Options, report: Callable[[str, str], None], on_ready: Callable[[dict[str, Any]], None]
) -> None:
    """Start the platform, call `on_ready(endpoints)`, and stop it on Ctrl-C, SIGTERM or a closed terminal.

    Raises:
        StartError: it did not start; whatever had started is stopped.
    """
    stopping = asyncio.Event()
    for number in _STOPS:
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    platform = Platform(options, report)
    try:
        if await _unless(stopping, platform.start()):
            on_ready(platform.endpoints)
            await stopping.wait()
        report("platform", "stopping")
    finally:
        await platform.stop()


async def _unless(stopping: asyncio.Event, work: Any) -> bool:  # noqa: ANN401  any coroutine
    """Do the work to its end and return True, or give it up when `stopping` comes first."""
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.wait({task})
    return False


def main() -> None:
    """Serve in the background: the options come as JSON on standard input."""
    orders = json.load(sys.stdin)
    try:
        asyncio.run(serve(Options(**orders | {"data": Path(orders["data"])}), plain, lambda _endpoints: None))
    except StartError as error:
        sys.exit(f"✗ {error}")


if __name__ == "__main__":
    main()
