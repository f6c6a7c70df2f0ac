"""What the platform costs before anybody uses it: seconds to ready, memory at rest, and what its quick commands burn.

    python benchmarks/up.py [--rounds 3] [--rest 20]

`./holdtrue up --detach` on a data folder that was up before, in a home of its own that shares only the downloads.
Memory is the proportional set size (a page shared by n processes counts 1/n to each) of every process below the
supervisor, itself included, after it has rested; CPU is user and system time of `./holdtrue` with all its children.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from holdtrue_local import control
from holdtrue_local.home import home

ROOT = Path(__file__).parents[1]
HOLDTRUE = str(ROOT / "holdtrue")
MEGABYTE = 1e6


def main() -> None:
    arguments = _arguments()
    with TemporaryDirectory(prefix="holdtrue-bench-") as folder:
        (Path(folder) / "cache").symlink_to(home() / "cache")
        environment = os.environ | {"HOLDTRUE_HOME": folder, "NO_COLOR": "1"}
        _run(["up", "--detach", "--ports", "free"], environment)
        seconds: list[float] = []
        for _ in range(arguments.rounds):
            _run(["down"], environment)
            seconds.append(_start(environment))
        print(f"up --detach to ready   {statistics.median(seconds):8.1f} s    (goal ≤ 12; {arguments.rounds} rounds)")
        try:
            _at_rest(Path(folder), arguments.rest)
            for command in (["--version"], ["status"]):
                _cpu(command, environment)
        finally:
            _run(["down"], environment)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="starts to measure")
    parser.add_argument("--rest", type=float, default=20.0, help="seconds at rest over which CPU is measured")
    return parser.parse_args()


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run([HOLDTRUE, *command], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=180)


def _start(environment: dict[str, str]) -> float:
    began = time.perf_counter()
    _run(["up", "--detach", "--ports", "free"], environment)
    return time.perf_counter() - began


def _at_rest(data: Path, seconds: float) -> None:
    supervisor = psutil.Process(control.running(data))
    everyone = [supervisor, *supervisor.children(recursive=True)]
    before = sum(sum(process.cpu_times()[:2]) for process in everyone)
    time.sleep(seconds)
    burnt = sum(sum(process.cpu_times()[:2]) for process in everyone) - before
    sizes = {process.pid: process.memory_full_info().pss / MEGABYTE for process in everyone}
    print(f"memory at rest         {sum(sizes.values()):8.0f} MB   (goal ≤ 1,300; {len(everyone)} processes)")
    print(f"CPU at rest            {burnt / seconds:8.1%} of a core")
    status: dict[str, Any] = control.status(data) or {"programs": []}
    for program in status["programs"]:
        tree = psutil.Process(program["pid"])
        pids = [tree.pid, *(child.pid for child in tree.children(recursive=True))]
        print(f"  {program['name']:<20} {sum(sizes.get(pid, 0.0) for pid in pids):8.0f} MB")


def _cpu(command: list[str], environment: dict[str, str], times: int = 9) -> None:
    burnt: list[float] = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _run(command, environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        burnt.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"holdtrue {command[0]:<13} {1000 * statistics.median(burnt):8.0f} ms   of CPU (goal ≤ 250)")


if __name__ == "__main__":
    main()
