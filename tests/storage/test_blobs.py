from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from holdtrue_core.errors import InvalidArgument
from holdtrue_storage.blobs import BlobCorrupt, BlobMissing, DirectoryBlobs

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_put_is_got_by_its_digest(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path / "blobs")
    digest = blobs.put(b"bytes")
    assert digest == hashlib.sha256(b"bytes").hexdigest()
    assert blobs.get(digest) == b"bytes"
    assert blobs.size(digest) == 5
    assert blobs.put(b"bytes") == digest


def test_a_file_is_copied_and_opened_verified(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(os.urandom(3_000_000))
    blobs = DirectoryBlobs(tmp_path / "blobs")
    digest = blobs.put_file(source)
    with blobs.open_verified(digest) as file:
        assert file.read() == source.read_bytes()


def test_a_flipped_bit_is_never_handed_out_and_a_new_put_repairs_it(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    digest = blobs.put(b"good bytes")
    path = tmp_path / digest[:2] / digest
    path.write_bytes(b"gOod bytes")
    with pytest.raises(BlobCorrupt, match=digest):
        blobs.get(digest)
    blobs.put(b"good bytes")
    assert blobs.get(digest) == b"good bytes"


def test_a_missing_blob_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BlobMissing, match=str(tmp_path)):
        DirectoryBlobs(tmp_path).get("0" * 64)
    with pytest.raises(BlobMissing):
        DirectoryBlobs(tmp_path).size("0" * 64)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_only_digests_name_blobs(tmp_path: Path, digest: str) -> None:
    with pytest.raises(InvalidArgument, match="digest"):
        DirectoryBlobs(tmp_path).get(digest)


def test_over_the_limit_nothing_is_kept(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path, limit=10)
    with pytest.raises(InvalidArgument, match="10 bytes"):
        blobs.put(b"eleven byte")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_so_and_nothing_is_kept(tmp_path: Path) -> None:
    source = f"""
import resource, signal
from pathlib import Path
from holdtrue_storage import blobs
import os
real = os.fdopen
class Full:
    def __init__(self, f): self.f = f
    def __enter__(self): return self
    def __exit__(self, *a): self.f.close()
    def write(self, chunk): raise OSError(28, "No space left on device")
os.fdopen = lambda *a: Full(real(*a))
try:
    blobs.DirectoryBlobs(Path({str(tmp_path)!r})).put(b"x")
except blobs.ResourceExhausted as error:
    print(error.reason)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "DISK_FULL"
    assert list(tmp_path.iterdir()) == []
