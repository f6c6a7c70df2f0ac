"""What a start relies on: artifacts and desired states on the own disk, and a folder for one process alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from holdtrue_inference.store.cache import Artifacts, DesiredStates
from holdtrue_inference.store.lock import FolderInUse, lock
from holdtrue_storage.blobs import BlobCorrupt, BlobMissing, DirectoryBlobs

from tests.inference.states import state

if TYPE_CHECKING:
    from pathlib import Path

OWNER = """
import sys, pathlib
from holdtrue_inference.store.lock import lock
lock(pathlib.Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def source(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "blobs")


def damage(folder: Path, digest: str) -> None:
    (folder / digest[:2] / digest).write_bytes(b"rotten")


def test_an_artifact_is_fetched_once(tmp_path: Path, source: DirectoryBlobs) -> None:
    digest = source.put(b"model")
    artifacts = Artifacts(tmp_path / "cache", source)
    assert artifacts.fetch(digest) == b"model"
    (tmp_path / "blobs" / digest[:2] / digest).unlink()
    assert artifacts.fetch(digest) == b"model"
    assert Artifacts(tmp_path / "cache", source).fetch(digest) == b"model"


def test_a_rotten_cache_is_fetched_again(tmp_path: Path, source: DirectoryBlobs) -> None:
    digest = source.put(b"model")
    artifacts = Artifacts(tmp_path / "cache", source)
    artifacts.fetch(digest)
    damage(tmp_path / "cache", digest)
    assert artifacts.fetch(digest) == b"model"
    damage(tmp_path / "blobs", digest)
    assert artifacts.fetch(digest) == b"model", "the cache is whole again"


def test_what_is_nowhere_whole_is_not_handed_out(tmp_path: Path, source: DirectoryBlobs) -> None:
    artifacts = Artifacts(tmp_path / "cache", source)
    with pytest.raises(BlobMissing):
        artifacts.fetch("0" * 64)
    digest = source.put(b"model")
    damage(tmp_path / "blobs", digest)
    with pytest.raises(BlobCorrupt):
        artifacts.fetch(digest)


def test_the_last_state_of_each_deployment_is_kept(tmp_path: Path) -> None:
    states = DesiredStates(tmp_path / "desired")
    assert states.load() == []
    for generation, name in ((1, "a"), (1, "b"), (2, "a")):
        states.save(state(generation, name=name))
    again = DesiredStates(tmp_path / "desired")
    assert again.load() == [state(2, name="a"), state(1, name="b")]
    again.forget("id-of-a")
    again.forget("id-of-a")
    assert states.load() == [state(1, name="b")]


def test_an_unreadable_state_and_half_of_one_are_left_out(tmp_path: Path) -> None:
    states = DesiredStates(tmp_path)
    states.save(state(1, name="a"))
    (tmp_path / "bad.binpb").write_bytes(b"\xff")
    (tmp_path / "id-of-a.new").write_bytes(b"half of a crash")
    assert states.load() == [state(1, name="a")]
    states.save(state(2, name="a"))
    assert states.load() == [state(2, name="a")]


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "a" * 129])
def test_an_id_that_could_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a deployment id is letters, digits, dots and dashes"):
        DesiredStates(tmp_path).forget(name)


def test_a_folder_belongs_to_one_process_until_it_dies(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"locked\n"
        with pytest.raises(FolderInUse, match=rf"{folder} is used by another inference process \(pid {owner.pid}\)"):
            lock(folder)
        owner.kill()
        owner.wait()
    os.close(lock(folder))
