"""The root script, on a small checkout of its own: the real script, installer, uv and packages."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from holdtrue_local.install import ROOT, InstallError, find_uv

_PROGRAM = """
import os, sys, iniconfig
def main():
    print(os.getcwd(), sys.prefix, *sys.argv[1:], sep="|")
"""
_PROJECT = """
[project]
name = "toy"
version = "0.1.0"
[project.scripts]
holdtrue = "toy:main"
[build-system]
requires = ["uv_build>=0.9"]
build-backend = "uv_build"
[tool.uv.build-backend]
module-root = ""
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Our root script and installer around one toy distribution and one locked package."""
    root = tmp_path / "check out"
    for name in ("holdtrue", "libs/local/holdtrue_local/install.py", "requirements/installer.lock"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    for kind in ("libs", "services"):
        toy = root / kind / "toy"
        (toy / "toy").mkdir(parents=True)
        (toy / "toy" / "__init__.py").write_text(_PROGRAM)
        (toy / "pyproject.toml").write_text(_PROJECT.replace('"toy"', f'"{kind}-toy"', 1) + 'module-name = "toy"\n')
    shutil.rmtree(root / "services" / "toy" / "toy")
    (root / "services" / "toy" / "svc").mkdir()
    (root / "services" / "toy" / "svc" / "__init__.py").touch()
    project = root / "services" / "toy" / "pyproject.toml"
    project.write_text(project.read_text().replace('holdtrue = "toy:main"', "").replace('"toy"', '"svc"'))
    lines = (ROOT / "requirements" / "dev.lock").read_text().partition("\niniconfig==")[2].splitlines()
    end = next(number for number, line in enumerate(lines) if "--hash" in line and not line.endswith("\\"))
    (root / "requirements.lock").write_text("\n".join(["iniconfig==" + lines[0], *lines[1 : end + 1]]) + "\n")
    return root


@pytest.fixture(autouse=True)
def uv_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(find_uv(ROOT)).parent}:{os.environ['PATH']}")


def _nothing(_name: str) -> None:
    """Find nothing."""


def _run(script: Path, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *arguments], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_it_installs_once_and_runs_where_the_user_is(checkout: Path, tmp_path: Path) -> None:
    first = _run(checkout / "holdtrue", "predict", "a b", cwd=tmp_path)
    assert first.stdout == f"{tmp_path}|{checkout}/.venv|predict|a b\n"
    assert "installing into .venv" in first.stderr
    second = _run(checkout / "holdtrue", "predict", "a b", cwd=tmp_path)
    assert (second.stdout, second.stderr) == (first.stdout, "")


def test_it_is_found_through_symlinks(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "one").symlink_to(checkout / "holdtrue")
    (tmp_path / "bin" / "two").symlink_to("one")
    done = _run(tmp_path / "bin" / "two", cwd=Path("/"))
    assert done.stdout == f"/|{checkout}/.venv\n"


def test_later_starts_need_neither_network_nor_uv_nor_home(checkout: Path, tmp_path: Path) -> None:
    first = _run(checkout / "holdtrue", cwd=tmp_path)
    second = _run(
        checkout / "holdtrue", cwd=tmp_path, UV_OFFLINE="1", PATH="/usr/bin:/bin", HOME=str(tmp_path / "none")
    )
    assert second.stdout == first.stdout != ""


def test_a_private_home_is_enough(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    done = _run(checkout / "holdtrue", cwd=tmp_path, HOME=str(tmp_path / "home"))
    assert done.returncode == 0
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_a_changed_lock_or_project_is_installed(checkout: Path, tmp_path: Path) -> None:
    _run(checkout / "holdtrue", cwd=tmp_path)
    lock = checkout / "requirements.lock"
    lock.write_text("# changed\n" + lock.read_text())
    assert "installing" in _run(checkout / "holdtrue", cwd=tmp_path).stderr
    project = checkout / "libs" / "toy" / "pyproject.toml"
    project.write_text(project.read_text() + "# changed\n")
    assert "installing" in _run(checkout / "holdtrue", cwd=tmp_path).stderr
    assert _run(checkout / "holdtrue", cwd=tmp_path).stderr == ""


def test_a_half_made_environment_is_made_anew(checkout: Path, tmp_path: Path) -> None:
    _run(checkout / "holdtrue", cwd=tmp_path)
    (checkout / ".venv" / "installed").unlink()
    package = next((checkout / ".venv" / "lib").glob("*/site-packages/iniconfig/__init__.py"))
    package.unlink()  # not changed in place: uv links installed files to its cache
    done = _run(checkout / "holdtrue", cwd=tmp_path)
    assert done.stdout == f"{tmp_path}|{checkout}/.venv\n"


def test_a_failed_install_leaves_nothing_that_is_used(checkout: Path, tmp_path: Path) -> None:
    lock = checkout / "requirements.lock"
    good = lock.read_text()
    lock.write_text("\n".join(line[:-8] + "00000000" if "sha256" in line else line for line in good.splitlines()))
    broken = _run(checkout / "holdtrue", cwd=tmp_path, UV_CACHE_DIR=str(tmp_path / "cache"))
    assert broken.returncode != 0
    assert "cannot install" in broken.stderr
    lock.write_text(good)
    assert _run(checkout / "holdtrue", cwd=tmp_path).returncode == 0


def test_two_copies_at_once_install_once(checkout: Path, tmp_path: Path) -> None:
    command = [checkout / "holdtrue", "x"]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in both]
    assert [out for out, _ in outputs] == [f"{tmp_path}|{checkout}/.venv|x\n"] * 2
    assert sum("installing into" in err for _, err in outputs) == 1


def test_the_exit_status_is_the_command_s(checkout: Path, tmp_path: Path) -> None:
    (checkout / "libs" / "toy" / "toy" / "__init__.py").write_text("def main(): raise SystemExit(6)")
    assert _run(checkout / "holdtrue", cwd=tmp_path).returncode == 6


@pytest.fixture
def ordinary_user(checkout: Path) -> list[str]:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    for path in (checkout, *checkout.rglob("*")):
        os.chown(path, 65534, 65534)
    for folder in checkout.parents[:-2]:
        folder.chmod(folder.stat().st_mode | 0o001)
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]


def test_an_ordinary_user_can_install(checkout: Path, ordinary_user: list[str]) -> None:
    home = checkout / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    if subprocess.run([*ordinary_user, "python3", "-c", ""], check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine's python3 is private to root")
    done = subprocess.run(
        [*ordinary_user, checkout / "holdtrue"],
        cwd="/",
        env=os.environ | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"/|{checkout}/.venv\n", done.stderr


def test_without_python_it_says_what_is_missing(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname", "cat", "cmp", "readlink"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    done = _run(checkout / "holdtrue", cwd=tmp_path, PATH=str(tools))
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr


def test_without_the_venv_module_it_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", _nothing)
    monkeypatch.setattr(importlib.util, "find_spec", _nothing)
    with pytest.raises(InstallError, match="python3-venv"):
        find_uv(tmp_path)


def test_uv_is_installed_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements").mkdir()
    shutil.copy(ROOT / "requirements" / "installer.lock", tmp_path / "requirements")
    monkeypatch.setattr(shutil, "which", _nothing)
    uv = find_uv(tmp_path)
    assert subprocess.run([uv, "--version"], check=True, capture_output=True).stdout.startswith(b"uv ")
    assert find_uv(tmp_path) == uv


def test_the_interpreter_of_the_environment_is_ours(checkout: Path, tmp_path: Path) -> None:
    _run(checkout / "holdtrue", cwd=tmp_path)
    version = (checkout / ".venv" / "pyvenv.cfg").read_text()
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in version
