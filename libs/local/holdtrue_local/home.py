"""Where the platform keeps what it downloads and what it stores."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from holdtrue.endpoints import data_folder

from .errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_LONGEST_SOCKET_FOLDER = 85  # bytes; the kernel allows 107 for a socket's whole path


def home() -> Path:
    """The platform's own folder, also the data folder of `up`: `HOLDTRUE_HOME`, or `~/.local/share/holdtrue`."""
    return data_folder()


def cache_path(kind: str, key: bytes, base: Path | None = None) -> Path:
    """Where what `key` determines, for example a lock a download, is kept, below `base` (`home()` by default)."""
    return (base or home()) / "cache" / f"{kind}-{hashlib.sha256(key).hexdigest()[:12]}"


def cached(folder: Path, fetch: Callable[[Path], None], say: Callable[[str], None], doing: str = "fetching") -> Path:
    """The folder of `cache_path` with its download, shared by `up` and the tests.

    When it is missing, one process lets `fetch` fill a draft that is renamed at the end, so that half a download is
    never used; the others wait. `say` hears what is being done.
    """
    if not folder.exists():
        say(f"{doing} {folder.name}, once")
        with exclusive(folder.with_name(f"{folder.name}.lock")):
            if not folder.exists():
                draft = folder.with_name(f"{folder.name}.new")
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir()
                fetch(draft)
                draft.rename(folder)
    return folder


def socket_dir(wished: Path) -> Path:
    """The folder itself, or a short one in its place when its path is longer than a Unix socket's may be."""
    return wished if len(os.fsencode(wished)) <= _LONGEST_SOCKET_FOLDER else short_dir(wished)


def short_dir(wished: Path) -> Path:
    """A short path that stands for `wished`, in the folder for temporary files."""
    digest = hashlib.sha256(os.fsencode(wished)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"holdtrue-{os.geteuid()}-{digest}"


def private_dir(path: Path, owner: int | None = None) -> Path:
    """Make a folder of mode 0700 that belongs to us, or to the user id `owner`.

    Raises:
        StartError: somebody else's folder or link is in its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid not in {os.geteuid(), owner}:
        raise StartError(f"{path} belongs to another user; remove it or choose another data folder")
    path.chmod(0o700)
    if owner is not None:
        os.chown(path, owner, owner)
    return path


@contextmanager
def exclusive(path: Path) -> Generator[None]:
    """Hold the lock file `path`; a second holder, in any process, waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
