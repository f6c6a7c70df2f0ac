import re
import tomllib
from pathlib import Path

import pytest
from holdtrue_local.install import ROOT, own_projects

_LOCKS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "requirements.lock", *ROOT.glob("requirements/*.lock"), *ROOT.glob("libs/local/*/*.lock*"))
)
_SERVICES = [project.name for project in own_projects(ROOT) if project.parent.name == "services"]


def _pins(path: Path) -> dict[str, set[str]]:
    """Versions by package; more than one where they depend on the Python version."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / path).read_text(), re.MULTILINE):
        pins.setdefault(name, set()).add(version)
    return pins


@pytest.mark.parametrize("lock", _LOCKS, ids=str)
def test_no_lock_names_a_host_or_a_path(lock: Path) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"https?:|file:|\w+://|index-url|(?<![\w.])/(?!=)\w+/", text)


@pytest.mark.parametrize("lock", [lock for lock in _LOCKS if lock.suffix == ".lock"], ids=str)
def test_every_package_has_hashes(lock: Path) -> None:
    blocks = re.split(r"\n(?=[\w])", (ROOT / lock).read_text())
    packages = [block for block in blocks if "==" in block.split("\n", 1)[0]]
    assert packages
    assert all("--hash=sha256:" in block for block in packages)


@pytest.mark.parametrize("name", ["dev", *_SERVICES])
def test_what_is_tested_is_what_runs(name: str) -> None:
    everything = _pins(Path("requirements.lock"))
    for package, versions in _pins(Path(f"requirements/{name}.lock")).items():
        assert versions <= everything.get(package, versions), package


def test_every_service_has_a_lock_of_its_own_needs() -> None:
    assert {f"requirements/{name}.lock" for name in _SERVICES} <= set(map(str, _LOCKS))
    assert "faust-streaming" in _pins(Path("requirements/monitor.lock"))
    assert "faust-streaming" not in _pins(Path("requirements/inference.lock"))
    assert "scikit-learn" not in _pins(Path("requirements/inference.lock"))


def test_our_own_distributions_are_not_locked() -> None:
    own = {tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"] for project in own_projects(ROOT)}
    assert not own & set(_pins(Path("requirements.lock")))


def test_every_jar_has_a_checksum() -> None:
    jars = tomllib.loads((ROOT / "libs/local/holdtrue_local/kafka.lock.toml").read_text())["dependencies"]
    assert {"kafka_2.13", "slf4j-simple"} <= {jar["artifactId"] for jar in jars}
    assert all(re.fullmatch("[0-9a-f]{64}", jar["sha256"]) for jar in jars)
