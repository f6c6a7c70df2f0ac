"""A person is erased from every version, refused records and log, and nobody else's rows change; whatever is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import uuid
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from holdtrue_lake import compaction, erasure, rewriting
from holdtrue_lake.compaction import compact
from holdtrue_lake.erasure import Erased, erase_rows
from holdtrue_lake.files import data_files
from holdtrue_lake.proof import scan
from holdtrue_lake.ranges import Ranges
from holdtrue_lake.storage import open_table, quarantine_uri, rows_uri
from holdtrue_lake.upkeep import vacuum
from holdtrue_lake.versions import DamagedFile, content_digests, damaged_commits, read_quarantine, read_version
from hypothesis import given, settings
from hypothesis import strategies as st

from .erased_by_a_killed_process import STEPS
from .persons import Persons

if TYPE_CHECKING:
    import pyarrow as pa

ALL = [(0, 1_000_000)]
PROGRAM = Path(__file__).with_name("erased_by_a_killed_process.py")


@pytest.fixture
def persons(tmp_path: Path, dataset_id: str) -> Persons:
    return Persons(tmp_path, dataset_id)


def read(persons: Persons, ranges: Any = ALL) -> pa.Table:
    return read_version(persons.root, persons.dataset_id, ranges)


def erase(persons: Persons, *numbers: int, ids: tuple[str, ...] = ("erasure",)) -> Erased:
    found = erase_rows(persons.root, persons.dataset_id, persons.pseudonyms(numbers), ids)
    vacuum(persons.root, persons.dataset_id, timedelta(), alone=True)
    return found


def traces(persons: Persons, *numbers: int) -> int:
    return len(scan(persons.root, persons.dataset_id, persons.pseudonyms(numbers)).found)


def test_every_version_lacks_the_person_and_nobody_elses_rows_change(persons: Persons) -> None:
    commits = [
        persons.append([1, 2, 3]),
        persons.append([2, 3], refused=[1, 2]),
        persons.append([1]),
        persons.append([3]),
    ]
    before = read(persons)
    assert traces(persons, 1) > 0

    found = erase(persons, 1)

    assert found == Erased(2, 1, Ranges.of([(0, 0), (2, 2)]))
    assert traces(persons, 1) == 0
    left = [who not in persons.pseudonyms([1]) for who in before.column("_subject").to_pylist()]
    assert read(persons).equals(before.filter(left))
    assert read_quarantine(persons.root, persons.dataset_id).column("_subject").to_pylist() == persons.pseudonyms([2])
    digests = {commit.number: commit.digest for commit in commits}
    assert damaged_commits(persons.root, persons.dataset_id, digests) == [0, 2]
    now = content_digests(persons.root, persons.dataset_id, [0, 2])
    assert damaged_commits(persons.root, persons.dataset_id, digests | now) == []


def test_the_log_names_nobody_and_files_are_as_after_a_compaction(persons: Persons, tmp_path: Path) -> None:
    persons.append([3, 1, 2])
    pseudonym = persons.pseudonyms([1])[0]

    erase(persons, 1)

    log = "".join(path.read_text() for path in tmp_path.rglob("_delta_log/*.json"))
    assert pseudonym not in log
    assert '"predicate"' not in log
    place = rows_uri(persons.root, persons.dataset_id)
    [file] = data_files(open_table(place))
    assert (file.rows, file.first, file.last) == (2, 0, 0)
    pq.ParquetFile(Path(place.uri, file.path), page_checksum_verification=True).read()


def test_a_commit_of_which_nothing_is_left_still_has_a_digest(persons: Persons) -> None:
    persons.append([1, 1])
    persons.append([2])

    assert erase(persons, 1) == Erased(2, 0, Ranges.of([(0, 0)]))

    assert read(persons, [(0, 0)]).num_rows == 0
    assert persons.table.commits(-1)[0].accepted == 2, "what came is still known"
    assert set(content_digests(persons.root, persons.dataset_id, [0, 1])) == {0, 1}
    persons.table.reload()
    persons.append([3])
    assert read(persons).num_rows == 2


def test_many_are_erased_as_one(persons: Persons) -> None:
    persons.append(range(10))
    version = open_table(rows_uri(persons.root, persons.dataset_id)).version()

    erase_rows(persons.root, persons.dataset_id, persons.pseudonyms(range(9)), ["one", "two"])

    assert open_table(rows_uri(persons.root, persons.dataset_id)).version() == version + 1
    assert read(persons).num_rows == 1
    assert erase(persons, *range(9), ids=("two",)).rows == 9, "each of the erasures knows what went"
    assert erase(persons, *range(9), ids=("three",)) == Erased()


def test_who_is_not_there_changes_nothing(persons: Persons) -> None:
    persons.append([1])
    version = open_table(rows_uri(persons.root, persons.dataset_id)).version()

    assert erase_rows(persons.root, persons.dataset_id, persons.pseudonyms([7]), ["erasure"]) == Erased()
    assert erase_rows(persons.root, persons.dataset_id, [], ["erasure"]) == Erased()
    assert erase_rows(persons.root, str(uuid.uuid4()), persons.pseudonyms([1]), ["erasure"]) == Erased()
    assert open_table(rows_uri(persons.root, persons.dataset_id)).version() == version


@pytest.mark.parametrize("step", [*STEPS[1::2], *(pytest.param(step, marks=pytest.mark.long) for step in STEPS[::2])])
def test_a_killed_erasure_is_finished_by_the_next(step: str, persons: Persons) -> None:
    persons.append([1, 2, 3], refused=[1])
    persons.append([1, 3])
    command = [sys.executable, PROGRAM, persons.root, persons.dataset_id, step, *persons.pseudonyms([1])]

    killed = subprocess.run([*map(str, command)], check=False, timeout=60)

    assert killed.returncode == -signal.SIGKILL
    assert read(persons).num_rows in {3, 5}
    assert erase(persons, 1) == Erased(2, 1, Ranges.of([(0, 1)]))
    assert read(persons).column("_subject").to_pylist() == persons.pseudonyms([2, 3, 3])
    assert traces(persons, 1) == 0


@pytest.mark.parametrize("other", ["compaction", "append"])
def test_what_others_do_meanwhile_counts(persons: Persons, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        persons.append([1, 2])
    replace = rewriting.replace_files

    def overtaken(*arguments: Any, **options: Any) -> bool:
        monkeypatch.undo()
        if other == "compaction":
            compact(persons.root, persons.dataset_id, [Ranges.of([(0, 2)])])
        else:
            persons.append([1, 4])
        return replace(*arguments, **options)

    monkeypatch.setattr(erasure, "replace_files", overtaken)

    assert erase(persons, 1).rows == (3 if other == "compaction" else 4)

    assert read(persons).column("_subject").to_pylist() == persons.pseudonyms([2, 2, 2, *([4] * (other == "append"))])
    assert traces(persons, 1) == 0


def test_a_compaction_whose_files_an_erasure_takes_away_goes_on_with_the_new_ones(
    persons: Persons, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        persons.append([1, 2])
    rewrite = compaction._rewrite

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.undo()
        erase(persons, 1)
        return rewrite(*arguments)

    monkeypatch.setattr(compaction, "_rewrite", overtaken)
    compact(persons.root, persons.dataset_id, [Ranges.of([(0, 2)])])

    assert read(persons).column("_subject").to_pylist() == persons.pseudonyms([2, 2, 2])
    assert len(data_files(open_table(rows_uri(persons.root, persons.dataset_id)))) == 1


def test_a_damaged_file_stops_an_erasure_and_nothing_is_lost(persons: Persons) -> None:
    persons.append([1, 2])
    persons.append([1, 2])
    place = rows_uri(persons.root, persons.dataset_id)
    before = data_files(open_table(place))
    path = Path(place.uri, before[1].path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(DamagedFile, match="commits 1 to 1"):
        erase_rows(persons.root, persons.dataset_id, persons.pseudonyms([1]), ["erasure"])

    assert data_files(open_table(place)) == before


def test_a_trace_is_found_wherever_it_hides(persons: Persons) -> None:
    persons.append([1], broken=['{"email": "Zoë Ω <zoe@example.org>", broken'])
    name = "Zoë Ω <zoe@example.org>"
    places = {found.where for found in scan(persons.root, persons.dataset_id, [name]).found}
    assert "raw" in places, "in the packed column of refused records"

    folder = quarantine_uri(persons.root, persons.dataset_id).uri
    for file, content in (
        ("orphan.bin", name.encode()),
        ("_delta_log/note.json", b'{"commitInfo": "Zo\\u00eb \\u03a9 <zoe@example.org>"}'),
        ("_delta_log/nested.json", b'{"stats": "{\\"max\\": \\"Zo\\\\u00eb \\\\u03a9 <zoe@example.org>\\"}"}'),
        ("torn.parquet", b"PAR1 nobody knows what was here"),
    ):
        Path(folder, file).write_bytes(content)
    found = {(Path(each.file).name, each.where) for each in scan(persons.root, persons.dataset_id, [name]).found}
    assert {("orphan.bin", "bytes"), ("note.json", "bytes"), ("nested.json", "bytes")} < found
    assert ("torn.parquet", "unreadable") in found


def test_traces_of_the_log_are_found_in_its_checkpoints(persons: Persons) -> None:
    persons.append([1])
    pseudonym = persons.pseudonyms([1])[0]
    table = open_table(rows_uri(persons.root, persons.dataset_id))
    table.delete(f"_subject = '{pseudonym}'")  # what an erasure must not do
    vacuum(persons.root, persons.dataset_id, timedelta(), alone=True)

    found = scan(persons.root, persons.dataset_id, [pseudonym]).found

    assert [Path(each.file).suffix for each in found] == [".json"]


def test_a_short_identifier_is_no_trace_by_chance(persons: Persons) -> None:
    persons.append([1])

    assert scan(persons.root, persons.dataset_id, ["1", "20", "batch 1"]).found == ()


ROWS = st.lists(st.tuples(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.lists(st.integers(0, 4), max_size=2)),
                min_size=1, max_size=4)  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(
    history=ROWS, gone=st.sets(st.integers(0, 4), min_size=1, max_size=3), cut=st.integers(0, 3), first=st.booleans()
)
def test_what_is_left_is_what_a_person_would_leave(
    history: list[tuple[list[int], list[int]]], gone: set[int], cut: int, *, first: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        persons = Persons(Path(folder), str(uuid.uuid4()))
        for accepted, refused in history:
            persons.append(accepted, refused)
        version = Ranges.of([(0, min(cut, len(history) - 1))])
        if first:
            compact(persons.root, persons.dataset_id, [version])

        found = erase(persons, *gone)

        compact(persons.root, persons.dataset_id, [version])
        assert found.rows == sum(number in gone for accepted, _ in history for number in accepted)
        assert found.quarantined == sum(number in gone for _, refused in history for number in refused)
        touched = [n for n, (accepted, _) in enumerate(history) if gone & set(accepted)]
        assert found.commits == Ranges.of((n, n) for n in touched)
        rows = persons.protection.reveal(read(persons, version), persons.by_pseudonym())
        expected = [n for accepted, _ in history[: min(cut, len(history) - 1) + 1] for n in accepted if n not in gone]
        assert rows.column("age").to_pylist() == expected
        assert traces(persons, *gone) == 0
