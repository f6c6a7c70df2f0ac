"""Looking for what must not be there: in every byte that the tables of a dataset have, logs and orphans among them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector

from holdtrue_lake.storage import folder, has_table, quarantine_uri, rows_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdtrue_lake.storage import Root

_ROWS = 1 << 16
_SHORT = 8


@dataclass(frozen=True)
class Found:
    """A text that was looked for, by its position among them, and where it is: a file, and a column or `bytes`."""

    needle: int
    file: str
    where: str


@dataclass(frozen=True)
class Scan:
    """What was looked through, and what was found."""

    files: int
    bytes: int
    found: tuple[Found, ...]


@dataclass(frozen=True)
class _Needle:
    """A text in all ways to write it, or one so short that it means something only as a whole value."""

    text: str
    forms: frozenset[bytes]
    short: bool


def scan(root: Root, dataset_id: str, needles: list[str]) -> Scan:
    """Look for texts in all files of a dataset's two tables: their bytes, and the values of their columns.

    Short texts and numbers, which would be found by chance, are only looked for as whole values of columns of text.
    A Parquet file that cannot be read may hold anything: everything counts as found in it.
    """
    files = size = 0
    found: list[Found] = []
    forms = [_needle(needle) for needle in needles]
    for place in (rows_uri(root, dataset_id), quarantine_uri(root, dataset_id)):
        if not has_table(place):
            continue
        system = folder(place)
        for info in system.get_file_info(FileSelector("", recursive=True)):
            if info.is_file:
                with system.open_input_file(info.path) as file:
                    data = file.read()
                files, size = files + 1, size + len(data)
                found += (Found(needle, f"{place.uri}/{info.path}", where) for needle, where in _in_file(data, forms))
    return Scan(files, size, tuple(found))


def _needle(text: str) -> _Needle:
    """A text may stand as it is, and inside JSON, once or twice."""
    once = json.dumps(text)[1:-1]
    forms = frozenset({text.encode(), once.encode(), json.dumps(once)[1:-1].encode()})
    return _Needle(text, forms, len(text) < _SHORT or text.isdigit())


def _in_file(data: bytes, needles: list[_Needle]) -> Iterator[tuple[int, str]]:
    for number, needle in enumerate(needles):
        if not needle.short and any(form in data for form in needle.forms):
            yield number, "bytes"
    if data[:4] == b"PAR1":
        yield from _in_columns(data, needles)


def _in_columns(data: bytes, needles: list[_Needle]) -> list[tuple[int, str]]:
    """Values are packed in the file, so that its bytes do not show them."""
    seen: set[tuple[int, str]] = set()
    try:
        for batch in pq.ParquetFile(pa.BufferReader(data)).iter_batches(_ROWS):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                seen.update((number, name) for texts in _texts(column) for number in _matches(texts, needles))
    except (pa.ArrowException, OSError):
        seen.update((number, "unreadable") for number in range(len(needles)))
    return sorted(seen)


def _texts(array: Any) -> Iterator[Any]:  # noqa: ANN401  arrays of any type
    """Arrays of bytes inside an array, however nested."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _texts(array.dictionary)
    elif pa.types.is_map(kind):
        yield from _texts(array.keys)
        yield from _texts(array.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(array.flatten())
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            yield from _texts(child)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        yield array.cast(pa.binary())


def _matches(texts: Any, needles: list[_Needle]) -> Iterator[int]:  # noqa: ANN401  an array
    for number, needle in enumerate(needles):
        if needle.short:
            there = pc.any(pc.equal(texts, pa.scalar(needle.text.encode(), pa.binary()))).as_py()
        else:
            there = any(pc.any(pc.match_substring(texts, form)).as_py() for form in needle.forms)
        if there:
            yield number
