"""`holdtrue test`, for those who work on holdtrue: everything that has to be right before a change goes in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated
from xml.etree import ElementTree as ET

from cyclopts import Parameter

from holdtrue_local.install import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

_BIN = Path(sys.executable).parent
_RELEASED = "protos/released.binpb"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""For numpy and its like: several processes share the cores, where threads that wait for each other spin."""
_NO_TESTS = 5  # pytest's exit status when nothing was selected


def prove(*paths: Path, long: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Check format, lint, types, import rules and protos, then run all tests; with PATHS only the tests there.

    Tests run side by side; those marked `heavy`, which start whole platforms, run after the others.

    Examples:
        holdtrue test
        holdtrue test tests/stats
        holdtrue test --long

    Args:
        paths: Files or folders of tests.
        long: Also the tests that are marked `long`, and more examples where they are generated.
    """
    failed = [] if paths else [name for name, command in _checks().items() if not _run(name, command)]
    counts, tests_passed = _tests([str(path.absolute()) for path in paths], long=long)
    if not tests_passed:
        failed.append("tests")
    if failed:
        print(f"failed: {', '.join(failed)}")
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"tests: {counts['passed']} passed, {counts['failed']} failed{skipped}", flush=True)
    sys.exit(1 if failed else 0)


def _checks() -> dict[str, list[str]]:
    checks = {
        "format": ["ruff", "format", "--check", "--quiet"],
        "lint": ["ruff", "check", "--quiet"],
        "types": ["pyright", "--threads", "2"],
        "import rules": ["lint-imports"],
        "proto format": ["buf", "format", "--diff", "--exit-code"],
        "proto lint": ["buf", "lint"],
    }
    if (ROOT / _RELEASED).exists():
        checks["proto compatibility"] = ["buf", "breaking", "--against", _RELEASED]
    return checks


def _run(name: str, command: Sequence[str]) -> bool:
    """Run one tool of the environment; its output is shown when it fails."""
    began = time.monotonic()
    done = subprocess.run(
        [_BIN / command[0], *command[1:]], check=False, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    passed = done.returncode == 0
    print(f"{'✓' if passed else '✗'} {name} ({time.monotonic() - began:.1f} s)", flush=True)
    if not passed:
        print(done.stdout.decode(errors="replace"), flush=True)
    return passed


def _tests(paths: list[str], *, long: bool) -> tuple[Counter[str], bool]:
    """Both parts of the tests: how many of each outcome, and whether all is well, which needs at least one test."""
    scope, examples = ("", "long") if long else (" and not long", "holdtrue")
    parts = {
        # Three on two cores: many wait for a server most of their time.
        "light": ["-n", "3", "--dist", "worksteal", "-m", f"not heavy{scope}"],
        "heavy": ["-n", "2", "--dist", "loadgroup", "-m", f"heavy{scope}"],
    }
    counts: Counter[str] = Counter()
    statuses: list[int] = []
    with TemporaryDirectory() as folder:
        for part, options in parts.items():
            report = Path(folder) / f"{part}.xml"
            command = [_BIN / "pytest", *options, f"--hypothesis-profile={examples}", f"--junit-xml={report}", *paths]
            statuses.append(subprocess.run(command, check=False, cwd=ROOT, env=os.environ | _ONE_THREAD).returncode)
            counts += _count(report)
    well = all(status in {0, _NO_TESTS} for status in statuses) and counts["passed"] > 0
    return counts, well


def _count(report: Path) -> Counter[str]:
    """Count the outcomes in a JUnit report that pytest wrote; none when it wrote none."""
    if not report.exists():
        return Counter()
    suite = next(ET.parse(report).getroot().iter("testsuite"))  # noqa: S314  our own file
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    skipped = int(suite.attrib["skipped"])
    return Counter(passed=int(suite.attrib["tests"]) - failed - skipped, failed=failed, skipped=skipped)
