"""The README is run as written, block by block, on the embedded platform."""

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.system.conftest import ROOT

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECONDS = 600

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(SECONDS), pytest.mark.xdist_group("default ports")]


def blocks() -> list[tuple[str, str]]:
    """All (language, text) of the README but those that have a test of their own: the demo and tritonclient."""
    text = (ROOT / "README.md").read_text()
    elsewhere = re.compile(r"\./holdtrue demo|tritonclient")
    return [(kind, body) for kind, body in BLOCK.findall(text) if not elsewhere.search(body)]


@pytest.fixture(autouse=True)
def no_example() -> Iterator[None]:
    """Remove what the quickstart writes beside the README."""
    yield
    shutil.rmtree(ROOT / "example", ignore_errors=True)


def run(kind: str, body: str, home: dict[str, str]) -> str:
    command = ["sh", "-euc", body] if kind == "sh" else [str(ROOT / ".venv/bin/python"), "-c", body]
    done = subprocess.run(command, cwd=ROOT, env=home, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, f"{body}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
    return done.stdout


def test_every_block_runs_as_written(home: dict[str, str]) -> None:
    shell, python = ([body for kind, body in blocks() if kind == wanted] for wanted in ("sh", "python"))
    quickstart, onnx, labels = shell
    out = run("sh", quickstart, home)
    assert "tumour-check" in out
    assert "tumour-forest@1" in run("sh", onnx, home)
    sdk, consumer = python
    assert "tumour" not in run("python", sdk, home)
    assert "holdtrue.inference.v1.PredictionsServed" in run("python", consumer, home)
    run("sh", labels, home)
