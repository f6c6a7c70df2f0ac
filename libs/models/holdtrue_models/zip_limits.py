"""What a zip archive may be before anything of it is unpacked.

Only the directory and the local headers are read: a hostile archive costs as much memory as an honest one.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from dataclasses import dataclass

from holdtrue_models.errors import MalformedModel, UnsafeModel

_END = struct.Struct("<4s4H2LH")  # end of central directory
_LOCAL = struct.Struct("<4s5H3L2H")  # header before each member
_ENTRY_BYTES = 46
_HARMLESS = 0x0806  # names are UTF-8, how hard was packed; others: encrypted, streamed, patched
_NAME_BYTES = 255


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """Sizes that are accepted: members, unpacked bytes of all together, unpacked by packed bytes of each."""

    members: int = 10_000
    bytes: int = 2 << 30
    ratio: int = 100


STANDARD = ZipLimits()


def check_zip(data: bytes, limits: ZipLimits = STANDARD) -> list[zipfile.ZipInfo]:
    """Return the members. Raises MalformedModel or UnsafeModel unless the archive is plain and within the limits."""
    directory = _check_end(data, limits)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
        raise MalformedModel(f"this is not a zip archive, or it is cut off: {error}") from error
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise UnsafeModel("the archive has two members of one name; which of them is meant cannot be known")
    if sum(member.file_size for member in members) > limits.bytes:
        raise UnsafeModel(f"the archive unpacks to more than {limits.bytes} bytes")
    for member in members:
        _check_member(member, data, limits)
    _check_places(members, directory)
    return members


def _check_end(data: bytes, limits: ZipLimits) -> int:
    """Return where the directory begins. Its size is checked before zipfile makes an object of each entry."""
    if len(data) < _END.size:
        raise MalformedModel("this is not a zip archive: it is too short")
    magic, disk, start_disk, here, entries, size, offset, comment = _END.unpack(data[-_END.size :])
    if magic != b"PK\x05\x06" or comment or disk or start_disk or here != entries:
        raise MalformedModel("the archive is cut off, has a comment, or is spread over several files")
    if entries > limits.members or size > limits.members * (_ENTRY_BYTES + _NAME_BYTES):
        raise UnsafeModel(f"the archive has {entries} members in {size} bytes; at most {limits.members} are read")
    if offset + size + _END.size != len(data):
        raise MalformedModel("the archive has bytes that belong to no member")
    return int(offset)


def _check_member(member: zipfile.ZipInfo, data: bytes, limits: ZipLimits) -> None:
    name = member.filename
    if len(name) > _NAME_BYTES or name.startswith("/") or {"\\", "\0", ":"} & set(name) or ".." in name.split("/"):
        raise UnsafeModel(f"the archive has a member named {name[:_NAME_BYTES]!r}; only plain relative names are read")
    mode = member.external_attr >> 16
    if member.is_dir() or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
        raise UnsafeModel(f"the archive's member {name!r} is a folder, a link or a device; only files are read")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsafeModel(f"the archive's member {name!r} is packed by method {member.compress_type}")
    if member.file_size > limits.ratio * max(member.compress_size, 1):
        raise UnsafeModel(
            f"the archive's member {name!r} unpacks {member.compress_size} bytes to {member.file_size}, "
            f"more than {limits.ratio} times as much"
        )
    _check_local(member, data)


def _check_local(member: zipfile.ZipInfo, data: bytes) -> None:
    """Readers may follow the local header or the directory; both must say the same."""
    header = data[member.header_offset : member.header_offset + _LOCAL.size]
    if len(header) < _LOCAL.size:
        raise MalformedModel(f"the archive's member {member.filename!r} lies outside the archive")
    magic, _, flags, method, _, _, crc, packed, size, name_bytes, _ = _LOCAL.unpack(header)
    begin = member.header_offset + _LOCAL.size
    name = data[begin : begin + name_bytes].decode("utf-8", "replace")
    said = (name, method, crc, packed, size)
    listed = (member.orig_filename, member.compress_type, member.CRC, member.compress_size, member.file_size)
    if magic != b"PK\x03\x04" or (flags | member.flag_bits) & ~_HARMLESS or said != listed:
        raise UnsafeModel(f"the archive's directory and the header of {member.filename!r} differ, or it is encrypted")


def _check_places(members: list[zipfile.ZipInfo], directory: int) -> None:
    places = sorted((m.header_offset, m.header_offset + _LOCAL.size + m.compress_size) for m in members)
    begins = [begin for begin, _ in places[1:]] + [directory]
    if any(end > begin for (_, end), begin in zip(places, begins, strict=True)):
        raise UnsafeModel("the archive's members overlap")
