"""Kafka's jars: resolved once by jgo into `kafka.lock.toml`, afterwards fetched and checked by sha256."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import StartError
from .home import cache_path, cached

if TYPE_CHECKING:
    from collections.abc import Callable

_LOCK = Path(__file__).with_name("kafka.lock.toml")
_ENDPOINT = "org.apache.kafka:kafka_2.13:4.4.0+org.slf4j:slf4j-simple:1.7.36"


def kafka_jars(say: Callable[[str], None]) -> Path:
    """The folder with exactly the locked jars; downloaded (43 MB) when it is missing.

    Raises:
        StartError: no network at the first run, or a wrong checksum.
    """
    return cached(cache_path("kafka", _LOCK.read_bytes()), _fetch, say)


def archive_path(java: Path) -> Path:
    """Where what this `java` keeps of the jars is cached."""
    program = java.resolve()
    key = f"{program} {program.stat().st_mtime_ns}".encode() + _LOCK.read_bytes()
    return cache_path("kafka-classes", key)


def is_cached() -> bool:
    """Whether `kafka_jars` needs no network."""
    return cache_path("kafka", _LOCK.read_bytes()).exists()


def _fetch(folder: Path) -> None:
    from jgo.env import LockFile  # noqa: PLC0415  slow to import, needed once in a machine's life
    from jgo.maven import MavenContext  # noqa: PLC0415

    repository = folder / "repository"
    context = MavenContext(repo_cache=repository, local_repos=[], timeout=60)
    lock = LockFile.load(_LOCK)
    for jar in lock.dependencies:
        artifact = context.project(jar.groupId, jar.artifactId).at_version(jar.version).artifact()
        try:
            artifact.resolve()
        except (OSError, RuntimeError) as error:
            raise StartError(
                f"{artifact} could not be downloaded ({error}); the first start needs the network, later ones do not"
            ) from error
    wrong = lock.verify_checksums(repository)
    if wrong:
        raise StartError(f"downloaded jars are not the locked ones: {'; '.join(wrong)}")
    for jar in repository.rglob("*.jar"):
        jar.rename(folder / jar.name)
    shutil.rmtree(repository)


def lock_jars() -> None:
    """Resolve `_ENDPOINT` anew and write the lock: the maintainer's command after changing the version."""
    import jgo  # noqa: PLC0415
    from jgo.env import LockedDependency, LockFile  # noqa: PLC0415
    from jgo.maven import Dependency  # noqa: PLC0415

    jars = [LockedDependency.from_dependency(Dependency(artifact)) for artifact in jgo.resolve(_ENDPOINT)]
    LockFile(sorted(jars, key=lambda jar: (jar.groupId, jar.artifactId)), environment_name="kafka").save(_LOCK)
