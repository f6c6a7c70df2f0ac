"""The protos are formatted, linted, compatible with the last release, and what is generated from them is committed."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
RELEASED = "protos/released.binpb"


def run(*command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


def copy(folder: Path) -> Path:
    """Copy what generating reads and writes."""
    for name in ("protos", "libs/contracts"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("buf.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def files(folder: Path) -> set[Path]:
    return {p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


@pytest.mark.parametrize(
    "command", [("format", "--diff", "--exit-code"), ("lint",), ("breaking", "--against", RELEASED)], ids=lambda c: c[0]
)
def test_buf_has_nothing_to_say(command: tuple[str, ...]) -> None:
    result = run("buf", *command)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_generating_changes_nothing(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    for stale in (folder / "libs/contracts").rglob("*_pb2*"):
        if "oip" not in stale.parts or stale.suffix == ".pyi":
            stale.unlink()
    result = run("poe", "-q", "-e", "simple", "protos", folder=folder)
    assert result.returncode == 0, result.stderr
    for name in ("protos", "libs/contracts"):
        before, after = files(ROOT / name), files(folder / name)
        assert before == after
        _, different, broken = filecmp.cmpfiles(ROOT / name, folder / name, map(str, before), shallow=False)
        assert different == broken == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("int64 rows = 5;", "int64 rows = 50;"),
        ("int64 rows = 5;", "string rows = 5;"),
        ("int64 rows = 5;", "int64 lines = 5;"),
    ],
    ids=["number", "type", "name"],
)
def test_a_breaking_change_would_be_noticed(tmp_path: Path, old: str, new: str) -> None:
    folder = copy(tmp_path)
    file = folder / "protos/holdtrue_contracts/registry/v1/datasets.proto"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    result = run("buf", "breaking", "--against", RELEASED, folder=folder)
    assert result.returncode != 0
    assert "datasets.proto" in result.stdout
