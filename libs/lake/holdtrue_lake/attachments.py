"""Images, audio and other files as rows: their bytes are blobs by digest, the table is their manifest.

A file is never a row's own file: many small files make a table slow, and copies of one are stored once. Files about
persons are encrypted under the person's key, so that destroying the key destroys them in every backup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_core.errors import InvalidArgument, NotFound

from holdtrue_lake.faults import Code, Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from holdtrue_storage.blobs import Blobs

    from holdtrue_lake.subjects import SubjectKey

COLUMNS = (
    ColumnSpec(name="digest", dtype="string"),
    ColumnSpec(name="size", dtype="int64"),
    ColumnSpec(name="media_type", dtype="string"),
)
"""Columns that a dataset of files has besides its labels; `digest` and `size` are those of the stored bytes."""
_PLACE = b"attachment"
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"%PDF-", "application/pdf"),
)
_RIFF = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
_OTHER = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that is stored: what its row in the manifest says about it."""

    digest: str
    size: int
    media_type: str


def attach(blobs: Blobs, data: bytes, key: SubjectKey | None = None) -> Attachment:
    """Store a file, encrypted if it is about the person with this `key`; its kind is told by its first bytes."""
    stored = data if key is None else key.seal(data, _PLACE)
    return Attachment(blobs.put(stored), len(stored), media_type(data))


def manifest(rows: Iterable[tuple[Attachment, Mapping[str, Any]]]) -> pa.Table:
    """Return files with their labels as a table that can be offered to a dataset with `COLUMNS` and those labels."""
    entries = [{"digest": a.digest, "size": a.size, "media_type": a.media_type, **labels} for a, labels in rows]
    return pa.Table.from_pylist(entries)


def contents(blobs: Blobs, rows: pa.Table, keys: Mapping[str, SubjectKey] | None = None) -> Iterator[bytes | None]:
    """Yield the bytes of each row's file, one at a time; None where the person's key is gone.

    `keys` are by pseudonym, for tables that protect persons. Raises BlobMissing, BlobCorrupt, Undecipherable.
    """
    digests: list[str] = rows.column("digest").to_pylist()
    if keys is None:
        yield from map(blobs.get, digests)
        return
    for digest, who in zip(digests, rows.column("_subject").to_pylist(), strict=True):
        yield keys[who].open(blobs.get(digest), _PLACE) if who in keys else None


def missing(blobs: Blobs, rows: pa.Table) -> list[Fault]:
    """Faults of rows whose file is not stored, or has another size than they say: a row never comes before its file."""
    faults: list[Fault] = []
    for row, (digest, size) in enumerate(zip(*(rows.column(n).to_pylist() for n in ("digest", "size")), strict=True)):
        found = _size(blobs, digest)
        if found is None:
            faults.append(Fault(row, Code.MISSING, "digest", "the digest of a stored file", repr(digest)))
        elif found != size:
            faults.append(Fault(row, Code.OUT_OF_RANGE, "size", f"{found}, which the stored file has", repr(size)))
    return faults


def media_type(data: bytes) -> str:
    """Kind of a file by its first bytes, never by its name; `application/octet-stream` where they say nothing."""
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12], _OTHER)
    if data[4:8] == b"ftyp":
        return "audio/mp4" if data[8:11] == b"M4A" else "video/mp4"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), _OTHER)


def _size(blobs: Blobs, digest: object) -> int | None:
    try:
        return blobs.size(str(digest))
    except (NotFound, InvalidArgument):
        return None
