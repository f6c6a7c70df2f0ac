"""The file of the master key: made once, and never again while anything is encrypted under it."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from holdtrue_lake.subjects import MasterKey, new_secret

if TYPE_CHECKING:
    from pathlib import Path


def make_master_key(path: Path) -> MasterKey:
    """Return the key of a file that only this user may read, made if there is none. Raises OSError, ValueError.

    Of several that make it at once one wins, and all get its key.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(handle, new_secret())
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        path.hardlink_to(draft)  # unlike a rename this never takes the place of another's
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    _make_durable(path.parent)
    return MasterKey.from_file(path)


def _make_durable(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
