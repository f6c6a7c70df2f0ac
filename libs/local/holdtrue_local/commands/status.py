"""`holdtrue status`. Imports nothing heavy: it has to be quick."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from holdtrue.cli.exits import Exit

from holdtrue_local import control

from .common import chosen, fail

_CLEAR = "\x1b[2J\x1b[H"


def status(
    *,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], negative=())] = False,
    data: Path | None = None,
    output: Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"])] = "table",
) -> None:
    """Show what runs, where, since when, and how much memory it takes.

    Examples:
        holdtrue status
        holdtrue status -w
        holdtrue status -o json

    Args:
        watch: Show it again every second until Ctrl-C.
        data: The data folder, by default ~/.local/share/holdtrue.
        output: How to print.
    """
    folder = chosen(data)
    while True:
        text = _ask(folder, output)
        print((_CLEAR if watch and sys.stdout.isatty() else "") + text, flush=True)
        if not watch:
            return
        time.sleep(1)


def _ask(data: Path, output: str) -> str:
    try:
        answer = control.status(data)
    except TimeoutError as error:
        fail(str(error), Exit.TIMEOUT)
    if answer is None:
        fail(f"nothing runs on {data}; start it with `holdtrue up`", Exit.UNREACHABLE)
    return json.dumps(answer, indent=2) if output == "json" else table(answer)


def table(status: dict[str, Any]) -> str:
    """The status for people: one line per program."""
    services, kafka = status["endpoints"]["services"], status["endpoints"]["kafka"]
    lines = [f"{status['state']} · pid {status['pid']} · {status['data']}"]
    lines.append(f"{'PROGRAM':<11}{'STATE':<10}{'FOR':>6}{'RESTARTS':>10}{'MEMORY':>9}  ADDRESSES")
    for program in status["programs"]:
        name = program["name"]
        state = program["state"] if program["answers"] or program["state"] != "ready" else "silent"
        where = "  ".join(f"{kind} {address}" for kind, address in services.get(name, {}).items())
        where = where or {"kafka": kafka}.get(name, "")
        memory = f"{program['memory_mb']} MB"
        age = _age(time.time() - program["since"])
        lines.append(f"{name:<11}{state:<10}{age:>6}{program['restarts']:>10}{memory:>9}  {where}".rstrip())
    return "\n".join(lines)


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
