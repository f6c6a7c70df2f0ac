"""`holdtrue doctor`."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from holdtrue.cli.exits import Exit

from holdtrue_local import control, data_folder, services
from holdtrue_local.errors import StartError
from holdtrue_local.jars import is_cached
from holdtrue_local.java import OLDEST, java_version
from holdtrue_local.privileges import launcher

from .common import chosen

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: what was looked at, whether it is well, what was seen, and what to do."""

    check: str
    ok: bool
    seen: str
    fix: str = ""


def doctor(
    *,
    data: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Check whether the platform can run on this machine, and what to do where it cannot. Changes nothing.

    Examples:
        holdtrue doctor
        holdtrue doctor --json

    Args:
        data: The data folder, by default ~/.local/share/holdtrue.
        as_json: Print the findings as JSON.
    """
    findings = examine(chosen(data))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print("\n".join(map(_line, findings)))
    if not all(finding.ok for finding in findings):
        sys.exit(Exit.FAILED)


def examine(data: Path) -> list[Finding]:
    """Look at everything that `up` needs."""
    pid = control.running(data)
    running = f"pid {pid} on {data}" if pid else "not running"
    checks: list[tuple[str, Callable[[], str]]] = [
        ("data folder", lambda: _data(data)),
        ("ports", lambda: "taken by the platform itself" if pid else _ports()),
        ("java", _java),
        ("kafka", lambda: "downloaded" if is_cached() else "will be downloaded at the first start (43 MB)"),
        ("postgres", lambda: f"18, run as {launcher()}"),
        ("platform", lambda: running),
    ]
    return [_find(name, look) for name, look in checks]


def _find(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, ok=True, seen=look())
    except StartError as error:
        seen, _, fix = str(error).partition("; ")
        return Finding(name, ok=False, seen=seen, fix=fix)


def _data(data: Path) -> str:
    data_folder.check(data)
    return f"{data}, {shutil.disk_usage(data).free / 1e9:.1f} GB free"


def _ports() -> str:
    chosen_services = services.choose(())
    services.check_ports(chosen_services, services.choose_ports(chosen_services, free=False))
    return "free"


def _java() -> str:
    found = shutil.which("java")
    version = java_version(Path(found)) if found else 0
    own = "our own (fetched once, about 60 MB)"
    return f"{found} ({version})" if version >= OLDEST else f"{own}, none of version {OLDEST} or newer is on PATH"


def _line(finding: Finding) -> str:
    advice = f"\n    → {finding.fix}" if finding.fix else ""
    return f"{'✓' if finding.ok else '✗'} {finding.check:<12} {finding.seen}{advice}"
