"""Each service is installed without the others, from its own lock; everything can be built and carries its files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
from holdtrue_local import services
from holdtrue_local.install import ROOT, find_uv, own_projects

pytestmark = [pytest.mark.heavy, pytest.mark.long, pytest.mark.timeout(600)]
_SECONDS = 500
_WITHOUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "dist")
_LISTED = """
import json, importlib.metadata as metadata
print(json.dumps(sorted({d.name.lower().replace("_", "-").replace(".", "-") for d in metadata.distributions()})))
"""


def project(folder: Path) -> dict[str, object]:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def needed(name: str) -> dict[str, Path]:
    """Our own distributions that the distribution `name` consists of, itself among them, and their folders."""
    folders = {str(project(folder)["name"]): folder for folder in own_projects(ROOT)}
    found, open_ends = dict[str, Path](), [name]
    while open_ends:
        each = open_ends.pop()
        found[each] = folders[each]
        words = project(folders[each]).get("dependencies", [])
        assert isinstance(words, list)
        wanted = {re.match(r"[\w.-]+", str(word)).group() for word in words}  # type: ignore[union-attr]
        open_ends += sorted((wanted & folders.keys()) - found.keys())
    return found


def run(*command: str | Path, environment: dict[str, str] | None = None, folder: Path = ROOT) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def install(name: str, own: dict[str, Path], venv: Path) -> Path:
    """Make an environment for one service as an image of it would be made: its lock, then our own; its Python."""
    uv, python = find_uv(ROOT), venv / "bin" / "python"
    run(uv, "venv", "--quiet", venv)
    lock = ROOT / "requirements" / f"{name}.lock"
    run(uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", lock)
    run(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, *own.values())
    return python


@pytest.mark.parametrize("service", services.SERVICES, ids=lambda service: service.name)
def test_a_service_is_installed_without_the_others(service: services.Service, tmp_path: Path) -> None:
    own = needed(f"holdtrue-{service.name}")
    python = install(service.name, own, tmp_path / "venv")
    run(find_uv(ROOT), "pip", "check", "--python", python)
    listed = set(json.loads(run(python, "-I", "-c", _LISTED)))
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / f"{service.name}.lock").read_text(), re.MULTILINE)
    assert listed <= own.keys() | {re.sub(r"[._]", "-", pin.lower()) for pin in locked}
    assert not listed & {f"holdtrue-{other.name}" for other in services.SERVICES if other is not service}
    ports = services.choose_ports([service], free=True)
    dsn = "postgresql://ada:secret@127.0.0.1/db" if service.database else None
    settings = services.environment(service, tmp_path, ports, kafka="127.0.0.1:9092", postgres=dsn)
    command = [python, "-m", f"holdtrue_{service.name}", "--print-settings"]
    shown = run(*command, environment={"PATH": os.environ["PATH"], **settings}, folder=tmp_path)
    assert f"{service.variable('kafka')}=127.0.0.1:9092" in shown
    assert "secret" not in shown


def test_everything_is_built_with_all_its_files(tmp_path: Path) -> None:
    copy, built = tmp_path / "copy", tmp_path / "built"
    copy.mkdir()
    shutil.copy(ROOT / "pyproject.toml", copy)
    for group in ("libs", "services"):
        shutil.copytree(ROOT / group, copy / group, ignore=_WITHOUT)
    run(find_uv(ROOT), "build", "--quiet", "--all-packages", "--out-dir", built, folder=copy)
    for folder in own_projects(copy):
        name = str(project(folder)["name"]).replace("-", "_")
        (wheel,) = built.glob(f"{name}-[0-9]*.whl")
        assert list(built.glob(f"{name}-[0-9]*.tar.gz"))
        files = {str(path.relative_to(folder)) for path in (folder / name).rglob("*") if path.is_file()}
        assert files
        assert files <= set(zipfile.ZipFile(wheel).namelist())
