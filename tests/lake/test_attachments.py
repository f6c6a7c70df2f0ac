"""Files are rows by their digests: what a version says is what is read, and a person's files go with the key."""

from __future__ import annotations

import hashlib
import wave
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_ARROW, DatasetSchema
from holdtrue_lake.attachments import COLUMNS, attach, contents, manifest, media_type, missing
from holdtrue_lake.subjects import SubjectKey, new_secret
from holdtrue_lake.table import DatasetTable, Offer
from holdtrue_lake.validation import validate
from holdtrue_lake.versions import read_version
from holdtrue_storage.blobs import BlobMissing, DirectoryBlobs
from matplotlib import image

from .persons import NOW, SOURCE

if TYPE_CHECKING:
    from pathlib import Path

ALL = [(0, 1_000)]
SCHEMA = DatasetSchema(columns=[*COLUMNS, ColumnSpec(name="label", dtype="int64")], label="label")


def picture(shade: float) -> bytes:
    out = BytesIO()
    image.imsave(out, np.full((4, 4), shade), vmin=0, vmax=1, format="png")
    return out.getvalue()


def sound() -> bytes:
    out = BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\1" * 100)
    return out.getvalue()


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "blobs")


def test_files_of_a_version_are_read_as_they_were(blobs: DirectoryBlobs, tmp_path: Path, dataset_id: str) -> None:
    files = [picture(0.1), sound(), b"neither", picture(0.1), b""]
    rows = manifest((attach(blobs, data), {"label": number % 2}) for number, data in enumerate(files))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    content = validate(SCHEMA, sink.getvalue().to_pybytes(), RECORD_FORMAT_ARROW, NOW)
    DatasetTable(tmp_path / "lake", dataset_id, SCHEMA).ingest(SOURCE, [Offer(0, "batch", content)], NOW)

    stored = read_version(tmp_path / "lake", dataset_id, ALL)

    assert list(contents(blobs, stored)) == files
    kinds = ["image/png", "audio/wav", "application/octet-stream", "image/png", "application/octet-stream"]
    assert stored.column("media_type").to_pylist() == kinds
    assert stored.column("size").to_pylist() == [len(data) for data in files]
    assert stored.column("digest").to_pylist() == [hashlib.sha256(data).hexdigest() for data in files]
    assert missing(blobs, stored) == []
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 4, "a copy is stored once"
    lake = tmp_path / "lake" / dataset_id
    assert len([path for path in lake.rglob("*") if path.is_file()]) == 3, "one file of rows, two of the log"


def test_a_persons_files_go_with_the_key(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    ada, bob = (SubjectKey.of(new_secret(), name) for name in ("ada", "bob"))
    data = picture(0.5)
    rows = manifest((attach(blobs, data, key), {"_subject": key.pseudonym}) for key in (ada, bob))
    keys = {key.pseudonym: key for key in (ada, bob)}

    assert list(contents(blobs, rows, keys)) == [data, data]
    assert rows.column("media_type").to_pylist() == ["image/png", "image/png"]
    assert missing(blobs, rows) == []
    assert all(data not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    del keys[ada.pseudonym]
    assert list(contents(blobs, rows, keys)) == [None, data]


def test_rows_without_their_file_are_told(blobs: DirectoryBlobs) -> None:
    there = attach(blobs, b"there")
    rows = pa.table({"digest": [there.digest, "0" * 64, there.digest, "../x", None], "size": [5, 5, 6, 5, 5]})

    assert [str(fault) for fault in missing(blobs, rows)] == [
        f"row 1, column 'digest': expected the digest of a stored file, got '{'0' * 64}' (MISSING)",
        "row 2, column 'size': expected 5, which the stored file has, got 6 (OUT_OF_RANGE)",
        "row 3, column 'digest': expected the digest of a stored file, got '../x' (MISSING)",
        "row 4, column 'digest': expected the digest of a stored file, got None (MISSING)",
    ]
    with pytest.raises(BlobMissing):
        list(contents(blobs, rows))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"RIFF\0\0\0\0????", "application/octet-stream"),
        (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
        (b"\0\0\0\x20ftypisom", "video/mp4"),
        (b"fLaC", "audio/flac"),
        (b"<html>", "application/octet-stream"),
    ],
)
def test_the_kind_is_told_by_the_bytes(data: bytes, kind: str) -> None:
    assert media_type(data) == kind
