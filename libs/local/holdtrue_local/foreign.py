"""Environments of foreign programs that tests and benchmarks compare us with, each from tests/foreign/NAME.lock.

    python -m holdtrue_local.foreign peers

They pin packages that ours do not allow; their programs run in processes of their own and answer in JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from .install import ROOT, find_uv, run

if TYPE_CHECKING:
    from pathlib import Path

FOREIGN = ROOT / "tests" / "foreign"
_QUIET = {"NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}  # two of them would report home


def missing(name: str) -> str:
    """Say how to install an environment that is not there or not up to its lock; empty if it is."""
    made = _folder(name) / "installed"
    if made.exists() and made.read_text() == _lock(name).read_text():
        return ""
    return f"the environment of {name} is not installed; make it with `python -m holdtrue_local.foreign {name}`"


def ask(name: str, task: str, inputs: Path) -> dict[str, Any]:
    """Run tests/foreign/NAME.py in its environment on a file of inputs, and return what it answers."""
    command = [
        interpreter(name),
        "-P",
        str(FOREIGN / f"{name}.py"),
        task,
        str(inputs),
    ]  # -P: it must not hide a package
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | _QUIET
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"{name}.py {task} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def install(name: str) -> None:
    """Make the environment from its lock. Raises InstallError."""
    uv, folder = find_uv(ROOT), _folder(name)
    run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    run([uv, "pip", "sync", "--quiet", "--python", interpreter(name), "--require-hashes", str(_lock(name))])
    (folder / "installed").write_text(_lock(name).read_text())


def _folder(name: str) -> Path:
    return ROOT / f".venv-{name}"


def _lock(name: str) -> Path:
    return FOREIGN / f"{name}.lock"


def interpreter(name: str) -> str:
    """The environment's Python."""
    return str(_folder(name) / "bin" / "python")


if __name__ == "__main__":
    install(sys.argv[1])
