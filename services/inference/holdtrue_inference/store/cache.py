"""What makes a start independent of everybody else: artifacts by digest, and the last desired states."""

from __future__ import annotations

import os
import re
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog
from google.protobuf.message import DecodeError
from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
from holdtrue_storage.blobs import BlobCorrupt, BlobMissing, Blobs, DirectoryBlobs, checked_digest

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"[0-9A-Za-z_.-]{1,128}")

_log = structlog.stdlib.get_logger("holdtrue.inference.cache")


class Artifacts:
    """Blobs by digest: from the cache, else from where all blobs are, and then into the cache. Blocks on the disk."""

    def __init__(self, folder: Path, source: Blobs) -> None:
        """Take the cache's folder."""
        self._cache = DirectoryBlobs(folder)
        self._tried = folder / f"tried-onnxruntime-{version('onnxruntime')}"
        self._tried.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._source = source

    def fetch(self, digest: str) -> bytes:
        """The verified bytes. Raises BlobMissing or BlobCorrupt if the source cannot give them either."""
        try:
            return self._cache.get(digest)
        except (BlobMissing, BlobCorrupt):
            data = self._source.get(digest)
            self._cache.put(data)
            return data

    def tried(self, digest: str) -> bool:
        """Whether the model of that manifest has been tried out here before, with the runtime of today."""
        return (self._tried / checked_digest(digest)).exists()

    def keep_tried(self, digest: str) -> None:
        """Remember that the model of that manifest has been tried out and is harmless."""
        (self._tried / checked_digest(digest)).touch(mode=0o600)


class DesiredStates:
    """The last desired state of each deployment that was served here. Blocks on the disk."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if it is missing."""
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self) -> list[DeploymentState]:
        """All states; an unreadable one is left out, loudly: it will come again."""
        states: list[DeploymentState] = []
        for path in sorted(self._folder.glob("*.binpb")):
            try:
                states.append(DeploymentState.FromString(path.read_bytes()))
            except DecodeError:
                _log.exception("a cached desired state is unreadable", file=str(path))
        return states

    def save(self, state: DeploymentState) -> None:
        """Keep a state instead of the one before."""
        path = self._path(state.deployment_id)
        draft = path.with_suffix(".new")
        with draft.open("wb") as file:
            file.write(state.SerializeToString())
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)

    def forget(self, deployment_id: str) -> None:
        """Drop a state."""
        self._path(deployment_id).unlink(missing_ok=True)

    def _path(self, deployment_id: str) -> Path:
        if not _NAME.fullmatch(deployment_id):
            raise ValueError(f"a deployment id is letters, digits, dots and dashes, got {deployment_id!r}")
        return self._folder / f"{deployment_id}.binpb"
