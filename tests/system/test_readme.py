"""The README is run as written, block by block; the genuine client is held to what it tells."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from holdtrue_local import control, foreign
from holdtrue_local.install import InstallError

from tests.system.conftest import HOLDTRUE, ROOT, new_home
from tests.system.triton import check_what_the_client_sees, served

BLOCK = re.compile(r"^```(?:sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECONDS = 600

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(SECONDS), pytest.mark.xdist_group("default ports")]


def block(having: str) -> str:
    """The one block of the README that has this text."""
    (body,) = [body for body in BLOCK.findall((ROOT / "README.md").read_text()) if having in body]
    return body


def run(command: list[str | Path], home: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=home, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, f"{command}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
    return done.stdout


def shell(having: str, home: dict[str, str]) -> str:
    return run(["sh", "-euc", block(having)], home)


def python(having: str, home: dict[str, str], interpreter: str | Path = ROOT / ".venv/bin/python") -> str:
    return run([interpreter, "-c", block(having)], home)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A home in which the quickstart was done; what it writes beside the README is removed."""
    home = new_home(tmp_path_factory.mktemp("readme"))
    try:
        assert "tumour-check" in shell("datasets add", home)
        yield home
    finally:
        run([*HOLDTRUE, "down"], home)
        shutil.rmtree(ROOT / "example", ignore_errors=True)


@pytest.fixture(scope="module")
def client() -> str:
    """Python of the environment that has the genuine client; it is made when it is not there yet."""
    if foreign.missing("tritonclient"):
        try:
            foreign.install("tritonclient")
        except InstallError as error:
            pytest.skip(f"tritonclient cannot be installed: {error}")
    return foreign.interpreter("tritonclient")


def test_the_sdk_predicts(home: dict[str, str]) -> None:
    assert "tumour" not in python("ht.connect", home)


def test_a_plain_consumer_reads_the_predictions(home: dict[str, str]) -> None:
    assert "holdtrue.inference.v1.PredictionsServed" in python("AIOKafkaConsumer", home)


def test_the_genuine_client_asks_and_kafka_has_its_very_prediction(
    client: str, home: dict[str, str], tmp_path: Path
) -> None:
    status = control.status(Path(home["HOLDTRUE_HOME"]))
    assert status
    inference, kafka = status["endpoints"]["services"]["inference"]["grpc"], status["endpoints"]["kafka"]
    check_what_the_client_sees(inference, kafka, tmp_path)
    lines = python("tritonclient", home, client).splitlines()
    assert len(lines) == 2
    assert asyncio.run(served(kafka, {line.split()[0] for line in lines}))


def test_a_model_from_elsewhere_serves(home: dict[str, str]) -> None:
    assert "tumour-forest@1" in shell("models register", home)


def test_labels_are_told_and_the_platform_ends(home: dict[str, str]) -> None:
    """The last one: its block ends the platform."""
    shell("labels add", home)
    assert control.status(Path(home["HOLDTRUE_HOME"])) is None
