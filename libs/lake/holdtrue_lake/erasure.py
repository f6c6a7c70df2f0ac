"""Taking persons out of a dataset's tables: out of every version at once, because versions name commits, not files.

Files with rows of theirs are rewritten without them, in one commit that names nobody: a DELETE of the library would
leave its predicate in the log. Everything can be repeated after a crash, and finds then what is left to do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from holdtrue_lake.files import DataFile, files_with, read_files, read_rows
from holdtrue_lake.order import canonical
from holdtrue_lake.ranges import Ranges
from holdtrue_lake.rewriting import MOST_ATTEMPTS, replace_files, write_file
from holdtrue_lake.schema import SUBJECT
from holdtrue_lake.storage import has_table, open_table, quarantine_uri, rows_uri
from holdtrue_lake.table import Fenced

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from deltalake import DeltaTable
    from deltalake.transaction import AddAction

    from holdtrue_lake.storage import Root, Storage

_KEY = "holdtrue.erasure"


class _Record(msgspec.Struct, frozen=True):
    """What the log keeps of an erasure: its ids, how many rows went, and out of which commits."""

    ids: list[str]
    rows: int
    commits: list[tuple[int, int]]


@dataclass(frozen=True)
class Erased:
    """Rows and refused records that went, by this attempt and earlier ones of the same erasures, and their commits."""

    rows: int = 0
    quarantined: int = 0
    commits: Ranges = field(default_factory=Ranges)

    def __or__(self, other: Erased) -> Erased:
        """Return the more of both: of two counts of the same, of which some may have gone in between."""
        rows, quarantined = max(self.rows, other.rows), max(self.quarantined, other.quarantined)
        return Erased(rows, quarantined, self.commits | other.commits)


def holdings(root: Root, dataset_id: str, pseudonyms: Collection[str]) -> dict[str, Erased]:
    """What a dataset holds about some subjects, by pseudonym; who is not there is not named. Raises DamagedFile."""
    rows = _about(rows_uri(root, dataset_id), pseudonyms, ["_commit"])
    refused = Counter(each["_subject"] for each in _about(quarantine_uri(root, dataset_id), pseudonyms, []))
    counts = Counter(each["_subject"] for each in rows)
    return {
        name: Erased(
            counts[name],
            refused[name],
            Ranges.of((each["_commit"], each["_commit"]) for each in rows if each["_subject"] == name),
        )
        for name in sorted({*counts, *refused})
    }


def _about(place: Storage, pseudonyms: Collection[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    if not pseudonyms or not has_table(place):
        return []
    table = open_table(place)
    if not _protected(table):
        return []
    return read_rows(table, _theirs(pseudonyms), [SUBJECT.name, *columns]).to_pylist()


def _protected(table: DeltaTable) -> bool:
    return SUBJECT.name in pa.schema(table.schema().to_arrow()).names


def _theirs(pseudonyms: Collection[str]) -> pc.Expression:
    return pc.field(SUBJECT.name).isin(pa.array(sorted(pseudonyms), pa.string()))


def erase_rows(root: Root, dataset_id: str, pseudonyms: Collection[str], ids: Collection[str]) -> Erased:
    """Take everything about some subjects out of both tables of a dataset; the old files stay until `vacuum`.

    `ids` are those of the erasures. Raises DamagedFile, Fenced; nothing is lost then.
    """
    for place in (rows_uri(root, dataset_id), quarantine_uri(root, dataset_id)):
        if pseudonyms and has_table(place):
            _erase(place, pseudonyms, ids)
    return _erased(root, dataset_id, ids)


def _erased(root: Root, dataset_id: str, ids: Collection[str]) -> Erased:
    """What some erasures took out of a dataset, as its logs tell."""
    rows, refused = (
        list(_records(place, ids)) for place in (rows_uri(root, dataset_id), quarantine_uri(root, dataset_id))
    )
    commits = Ranges.of(span for record in rows for span in record.commits)
    return Erased(sum(record.rows for record in rows), sum(record.rows for record in refused), commits)


def _records(place: Storage, ids: Collection[str]) -> Iterator[_Record]:
    if not has_table(place):
        return
    for entry in open_table(place).history():
        if _KEY in entry:
            record = msgspec.json.decode(entry[_KEY], type=_Record)
            if not set(ids).isdisjoint(record.ids):
                yield record


def _erase(place: Storage, pseudonyms: Collection[str], ids: Collection[str]) -> None:
    table = open_table(place)
    if not _protected(table):
        return
    about = _theirs(pseudonyms)
    for _ in range(MOST_ATTEMPTS):
        files, parts, record = _rewrite(table, place, about, ids)
        if not files:
            return
        metadata = {"holdtrue.operation": "erasure", _KEY: msgspec.json.encode(record).decode()}
        replace_files(table, place, files, parts, metadata, data_change=True)  # if not, a compaction was faster
    raise Fenced(f"{MOST_ATTEMPTS} attempts to erase from {place.uri} met compactions; try again later")


def _rewrite(
    table: DeltaTable, place: Storage, about: pc.Expression, ids: Collection[str]
) -> tuple[list[DataFile], list[AddAction], _Record]:
    """Write each file with something about the subjects anew without that; nobody sees the new ones yet."""
    files = files_with(table, about)
    parts: list[AddAction] = []
    commits: set[int] = set()
    count = 0
    for file in files:
        rows = read_files(table, [file])
        gone, kept = rows.filter(about), rows.filter(~about)
        count += gone.num_rows
        if "_commit" in gone.column_names:
            commits.update(pc.unique(gone.column("_commit")).to_pylist())
        if kept.num_rows:
            parts.append(write_file(place, canonical(kept), data_change=True))
    return files, parts, _Record(sorted(ids), count, list(Ranges.of((number, number) for number in commits)))
