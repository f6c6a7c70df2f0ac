"""Make the locked environment. Run by the root script with the machine's own Python: standard library only.

`install.py ROOT ENVIRONMENT LOCK…` with the recipe (what the environment is made of, in full) on standard input. One
process at a time does the work, the others wait for it. The recipe is written into the environment as the last step,
so that an environment without it, or with another one, is known to be unfinished or old.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
_OLDEST_UV = (0, 9)


class InstallError(Exception):
    """The environment could not be made; the message says what to do."""


def install(root: Path, environment: str, locks: list[str], recipe: str) -> None:
    """Bring ROOT/ENVIRONMENT to what `recipe` says, unless another process has just done so."""
    venv = root / environment
    with (root / f"{environment}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finished = venv / "installed"
        usable = finished.exists() and (venv / "bin" / "python").exists()
        if usable and finished.read_text() == recipe:
            return
        say(f"installing into {environment}" + (" (once; later starts need no network)" if not usable else ""))
        uv = find_uv(root)
        if usable:
            finished.unlink()
        else:
            run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)])
        _sync(uv, root, venv, locks)
        draft = venv / "installed.new"
        draft.write_text(recipe)
        draft.rename(finished)


def _sync(uv: str, root: Path, venv: Path, locks: list[str]) -> None:
    """Install exactly the locked packages, then our own, editable: the first step removes whatever it does not know.

    All is compiled now, once, not by six services that start at the same time, or by each start where Python is told to
    write no bytecode.
    """
    python = str(venv / "bin" / "python")
    options = ["--python", python, *([] if sys.stderr.isatty() else ["--quiet"])]
    locked = [str(root / lock) for lock in locks]
    run([uv, "pip", "sync", *options, "--compile-bytecode", "--require-hashes", *locked])
    own = own_projects(root)
    run([uv, "pip", "install", *options, "--quiet", "--offline", "--no-deps", *(f"--editable={p}" for p in own)])
    run([python, "-m", "compileall", "-q", *map(str, own)])


def own_projects(root: Path) -> list[Path]:
    """The folders of our own distributions."""
    return sorted(
        project.parent for group in ("libs", "services") for project in (root / group).glob("*/pyproject.toml")
    )


def find_uv(root: Path) -> str:
    """The `uv` of PATH when it is recent enough, otherwise our own, installed into ROOT/.venv-uv when it is missing."""
    found = shutil.which("uv")
    if found and _version(found) >= _OLDEST_UV:
        return found
    folder = root / ".venv-uv"
    if not (folder / "bin" / "uv").exists():
        _install_uv(root, folder)
    return str(folder / "bin" / "uv")


def _version(uv: str) -> tuple[int, ...]:
    done = subprocess.run([uv, "--version"], check=False, capture_output=True, text=True)
    words = done.stdout.split()
    return tuple(int(part) for part in words[1].split(".")[:2]) if done.returncode == 0 else (0,)


def _install_uv(root: Path, folder: Path) -> None:
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise InstallError(
            f"{sys.executable} has no venv module; install it (on Debian and Ubuntu the package python3-venv) or uv"
        )
    say("installing uv")
    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(draft)])
    lock = root / "requirements" / "installer.lock"
    run([str(draft / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock)])
    draft.rename(folder)


def run(command: list[str]) -> None:
    """Run a step; its output is the user's to see, on standard error."""
    done = subprocess.run(command, check=False, stdout=sys.stderr.fileno(), env=_environment())
    if done.returncode != 0:
        raise InstallError(f"`{' '.join(command[:3])} …` failed with status {done.returncode}; see above")


def _environment() -> dict[str, str]:
    """The user's environment without what would point the tools at another virtual environment."""
    return {
        name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"}
    }


def say(text: str) -> None:
    """Tell the user, on standard error: standard output belongs to the command that runs afterwards."""
    print(f"holdtrue: {text}", file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    """Take the arguments of the root script."""
    root, environment, *locks = sys.argv[1:]
    try:
        install(Path(root), environment, locks, sys.stdin.read())
    except (InstallError, OSError) as error:
        say(f"cannot install: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
