"""The data folder: can we use it, and what is kept in it beside the servers' own folders."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from .errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

_NEEDED_MB = 300
_PROBE = b"\0" * 1_000_000


def check(data: Path) -> None:
    """Make the folder where it is missing, and make sure that we can write into it.

    Raises:
        StartError: why not, and what to do.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = data / ".probe"
        probe.write_bytes(_PROBE)
        probe.unlink()
        free = shutil.disk_usage(data).free // 1_000_000
    except OSError as error:
        raise StartError(f"cannot write into {data}: {error.strerror}; choose another folder with --data") from None
    if free < _NEEDED_MB:
        raise StartError(
            f"only {free} MB are free where {data} is, at least {_NEEDED_MB} are needed; "
            "make room or choose another folder with --data"
        )


def write_json(path: Path, document: dict[str, Any], mode: int = 0o644) -> None:
    """Write a document so that a reader sees the old one or the new one, never half."""
    draft = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as out:
        json.dump(document, out, indent=2)
    draft.replace(path)
