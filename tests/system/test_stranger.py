"""A fresh copy works for an ordinary user with a private home, from any folder, through a link, without Java."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from holdtrue_local.install import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.long, pytest.mark.heavy, pytest.mark.timeout(1800)]
_NOBODY = 65534
_BECOME = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--")
_USABLE = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
_TRUST = ("_PROXY", "_CERT", "_CERT_FILE", "_CERT_DIR", "_CA_BUNDLE")
_NETWORK = {name: value for name, value in os.environ.items() if name.endswith(_TRUST)}
_NOWHERE = {"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "UV_OFFLINE": "1"}


class Stranger:
    """Somebody who has a copy of what is tracked here, and the system's programs but Java."""

    def __init__(self, folder: Path) -> None:
        self.home, self.link = folder / "home", folder / "holdtrue"
        self._tools, self._copy = folder / "tools", folder / "copy"
        self.home.mkdir(mode=0o700)
        self._copy_tracked()
        self._link_tools()
        self.link.symlink_to(self._copy / "holdtrue")
        for path in (self.home, self._copy, *self._copy.rglob("*")):
            os.lchown(path, _NOBODY, _NOBODY)

    def _copy_tracked(self) -> None:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            target = self._copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target, follow_symlinks=False)

    def _link_tools(self) -> None:
        self._tools.mkdir()
        for tool in Path("/usr/bin").iterdir():
            if not tool.name.startswith("java"):
                (self._tools / tool.name).symlink_to(tool)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `holdtrue` through the link, in a folder that has nothing to do with it."""
        variables = {"HOME": str(self.home), "PATH": str(self._tools), "LANG": "C.UTF-8"} | _NETWORK | environment
        return subprocess.Popen(
            [*_BECOME, self.link, *arguments],
            cwd="/",
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> str:
        """Run `holdtrue` to its good end; what it said."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out + err


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Stranger]:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    if subprocess.run([*_BECOME, "/usr/bin/python3", "-c", _USABLE], check=False, capture_output=True).returncode:
        pytest.skip("/usr/bin/python3 is no Python 3.11 with venv that everybody may use")
    for folder in tmp_path.parents[:-2]:
        folder.chmod(folder.stat().st_mode | 0o001)
    tmp_path.chmod(0o755)
    stranger = Stranger(tmp_path)
    yield stranger
    stranger.start("down").communicate()


def test_from_a_fresh_copy_to_a_platform_that_needs_no_network(stranger: Stranger) -> None:
    both = [stranger.start("--version") for _ in range(2)]
    answers = [process.communicate() for process in both]
    assert all(out.startswith("holdtrue ") for out, _ in answers), answers
    assert sum("installing into .venv" in err for _, err in answers) == 1

    assert "fetching java" in stranger.run("up", "--detach", "--ports", "free")
    status = json.loads(stranger.run("status", "-o", "json"))
    assert status["data"] == str(stranger.home / ".local/share/holdtrue")
    assert all(program["answers"] for program in status["programs"])
    assert stranger.run("down") == "stopped\n"

    assert "holdtrue is ready" in stranger.run("up", "--detach", "--ports", "free", **_NOWHERE)
    assert stranger.home.stat().st_mode & 0o777 == 0o700
