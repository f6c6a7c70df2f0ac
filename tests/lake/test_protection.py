"""What is personal never lies readable in a table, and comes back exactly for whoever has the keys."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_ARROW, DatasetSchema
from holdtrue_lake.digest import content_digest
from holdtrue_lake.proof import scan
from holdtrue_lake.protection import Protection
from holdtrue_lake.subjects import MasterKey, SubjectKey, Undecipherable, new_secret
from holdtrue_lake.validation import validate
from holdtrue_lake.versions import read_quarantine, read_version
from hypothesis import given, settings
from hypothesis import strategies as st

from .persons import NOW, SCHEMA, Persons, person

if TYPE_CHECKING:
    from pathlib import Path

ALL = [(0, 1_000_000)]
PII = DatasetSchema(
    columns=[
        ColumnSpec(name="id", dtype="int64", pii=True),
        ColumnSpec(name="text", dtype="string", pii=True),
        ColumnSpec(name="number", dtype="float32", pii=True),
        ColumnSpec(name="flag", dtype="bool", pii=True),
        ColumnSpec(name="label", dtype="int64"),
    ],
    label="label",
)
KEYS = {str(number): SubjectKey.of(new_secret(), str(number)) for number in range(-1, 3)}


@pytest.fixture
def persons(tmp_path: Path, dataset_id: str) -> Persons:
    return Persons(tmp_path, dataset_id)


def on_disk(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


def test_nothing_personal_is_readable_in_data_quarantine_or_log(persons: Persons, tmp_path: Path) -> None:
    persons.append([1, 2, 1], refused=[3])

    assert scan(persons.root, persons.dataset_id, [person(n) for n in (1, 2, 3)]).found == ()
    assert b"person." not in on_disk(tmp_path)
    stored = read_version(persons.root, persons.dataset_id, ALL)
    assert str(stored.schema.field("age").type) == str(stored.schema.field("email").type) == "binary"
    assert stored.column("_subject").to_pylist() == persons.pseudonyms([1, 2, 1])
    assert len(set(stored.column("age").to_pylist())) == 3, "equal values have different ciphertexts"


def test_who_has_the_keys_reads_it_and_without_a_key_it_is_null(persons: Persons) -> None:
    persons.append([1, 2, 1])
    stored = read_version(persons.root, persons.dataset_id, ALL)
    keys = persons.by_pseudonym()

    revealed = persons.protection.reveal(stored, keys)
    assert revealed.column("email").to_pylist() == [person(1), person(2), person(1)]
    assert revealed.column("age").to_pylist() == [1, 2, 1]
    assert revealed.schema.field("age").type == pa.int64()

    del keys[persons.pseudonyms([1])[0]]
    assert persons.protection.reveal(stored, keys).column("age").to_pylist() == [None, 2, None]


def test_a_refused_record_is_kept_for_its_subject_byte_by_byte(persons: Persons) -> None:
    persons.append([1], refused=[3], broken=["{no record"])
    stored = read_quarantine(persons.root, persons.dataset_id)

    assert stored.column("_subject").to_pylist() == [*persons.pseudonyms([3]), None]
    assert all("a value that is not shown" in reason for reason in stored.column("reason").to_pylist())
    raw = persons.protection.reveal_refused(stored, persons.by_pseudonym()).column("raw").to_pylist()
    assert raw == [
        b'{"email": "person.3@example.org", "amount": 0, "age": 3, "fraud": "person.3@example.org"}',
        b"{no record",
    ]
    assert persons.protection.reveal_refused(stored, {}).column("raw").to_pylist() == [None, b"{no record"]


def test_an_arrow_record_is_refused_with_its_subject() -> None:
    protection = Protection("dataset", PII, "id")
    rows = pa.table({"id": [1, 2], "text": ["a", "b"], "number": [1.0, 2.0], "flag": [True, False], "label": [None, 0]})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)

    content = validate(PII, sink.getvalue(), RECORD_FORMAT_ARROW, NOW)

    assert protection.identifiers(content) == {"1", "2"}
    assert [each.subject for each in protection.protect(content, KEYS).refused] == [KEYS["1"].pseudonym]


ROW = st.fixed_dictionaries(
    {
        "id": st.integers(-1, 2),
        "text": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        "number": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
        "flag": st.none() | st.booleans(),
        "label": st.integers(0, 1),
    }
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, max_size=5))
def test_values_of_every_type_come_back_as_they_were(entries: list[dict[str, Any]]) -> None:
    kinds = [("id", pa.int64()), ("text", pa.string()), ("number", pa.float32()), ("flag", pa.bool_())]
    rows = pa.Table.from_pylist(entries, pa.schema([*kinds, ("label", pa.int64())]))
    protection = Protection("dataset", PII, "id")
    content = validate(PII, b"", RECORD_FORMAT_ARROW, NOW)
    content = type(content)(rows, ())

    protected = protection.protect(content, KEYS).rows

    revealed = protection.reveal(protected, {key.pseudonym: key for key in KEYS.values()})
    assert revealed.drop_columns("_subject").equals(rows)
    assert content_digest(protected) == content_digest(pa.concat_tables([protected]).combine_chunks())


def test_a_ciphertext_cannot_stand_for_another() -> None:
    one, two = KEYS["1"], KEYS["2"]
    sealed = one.seal(b"value", b"dataset/column")

    assert one.open(sealed, b"dataset/column") == b"value"
    for key, text, place in (
        (two, sealed, b"dataset/column"),
        (one, sealed, b"dataset/other"),
        (one, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"dataset/column"),
        (one, b"", b"dataset/column"),
    ):
        with pytest.raises(Undecipherable):
            key.open(text, place)


def test_the_master_key_hides_identifiers_and_secrets(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(range(32)))
    master, secret = MasterKey.from_file(tmp_path / "key"), new_secret()
    index = master.blind_index("acme", "ada@example.org")

    assert index == master.blind_index("acme", " ada@example.org\n")
    assert index != master.blind_index("other", "ada@example.org")
    assert index != MasterKey(bytes(32)).blind_index("acme", "ada@example.org")
    assert master.blind_index("a", "bc") != master.blind_index("ab", "c")
    assert master.unwrap(master.wrap(secret, index), index) == secret
    with pytest.raises(Undecipherable):
        MasterKey(bytes(32)).unwrap(master.wrap(secret, index), index)
    with pytest.raises(ValueError, match="at least 32 random bytes, got 31"):
        MasterKey(bytes(31))


def test_the_same_letters_are_the_same_person_however_they_are_encoded() -> None:
    secret = new_secret()
    assert SubjectKey.of(secret, "M\u00fcller").pseudonym == SubjectKey.of(secret, "Mu\u0308ller").pseudonym
    assert SubjectKey.of(secret, "Müller").pseudonym != SubjectKey.of(secret, "müller").pseudonym


@pytest.mark.parametrize("subject", ["amount", "fraud", "nobody"])
def test_only_a_protected_column_can_identify(subject: str) -> None:
    with pytest.raises(ValueError, match="must be a pii column of texts or whole numbers"):
        Protection("dataset", SCHEMA, subject)
