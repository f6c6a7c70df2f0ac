"""Kafka's jars: resolved once by jgo into `kafka.lock.toml`, afterwards fetched and checked by sha256."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from .home import cache_dir, exclusive

_LOCK = Path(__file__).with_name("kafka.lock.toml")
_ENDPOINT = "org.apache.kafka:kafka_2.13:4.4.0+org.slf4j:slf4j-simple:1.7.36"


class JarError(Exception):
    """A jar could not be fetched, or is not the one that the lock names."""


def kafka_jars() -> Path:
    """The folder with exactly the locked jars; downloaded (43 MB) when it is missing.

    Raises:
        JarError: no network at the first run, or a wrong checksum.
    """
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    folder = cache_dir() / f"kafka-{digest}"
    if not folder.exists():
        with exclusive(cache_dir() / "kafka.lock"):
            if not folder.exists():
                _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    """Download into a draft and rename it when every checksum is right, so that a half-made folder is never used."""
    from jgo.env import LockFile  # noqa: PLC0415  slow to import, needed once in a machine's life
    from jgo.maven import MavenContext  # noqa: PLC0415

    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    repository = draft / "repository"
    context = MavenContext(repo_cache=repository, local_repos=[], timeout=60)
    lock = LockFile.load(_LOCK)
    for jar in lock.dependencies:
        artifact = context.project(jar.groupId, jar.artifactId).at_version(jar.version).artifact()
        try:
            artifact.resolve()
        except (OSError, RuntimeError) as error:
            raise JarError(
                f"{artifact} could not be downloaded ({error}); the first start needs the network, later ones do not"
            ) from error
    wrong = lock.verify_checksums(repository)
    if wrong:
        raise JarError(f"downloaded jars are not the locked ones: {'; '.join(wrong)}")
    for jar in repository.rglob("*.jar"):
        jar.rename(draft / jar.name)
    shutil.rmtree(repository)
    draft.rename(folder)


def lock_jars() -> None:
    """Resolve `_ENDPOINT` anew and write the lock: the maintainer's command after changing the version."""
    import jgo  # noqa: PLC0415
    from jgo.env import LockedDependency, LockFile  # noqa: PLC0415
    from jgo.maven import Dependency  # noqa: PLC0415

    jars = [LockedDependency.from_dependency(Dependency(artifact)) for artifact in jgo.resolve(_ENDPOINT)]
    LockFile(sorted(jars, key=lambda jar: (jar.groupId, jar.artifactId)), environment_name="kafka").save(_LOCK)
