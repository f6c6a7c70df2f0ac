"""Rows about persons on their way into a table: pseudonyms for identifiers, ciphertext for what is personal.

What is refused is protected as well, so that an erasure reaches it; its faults no longer tell what the values were,
because a part of them goes into the table's log, which nothing can be erased from.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from holdtrue_lake.faults import Refused
from holdtrue_lake.schema import SUBJECT, row_schema, table_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema

    from holdtrue_lake.subjects import SubjectKey
    from holdtrue_lake.validation import Validated

HIDDEN = "a value that is not shown: this dataset protects persons"
_QUARANTINE = "quarantine"
_CODES: dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    "string": (str.encode, bytes.decode),
    "int64": (lambda value: struct.pack("<q", value), lambda data: struct.unpack("<q", data)[0]),
    "float32": (lambda value: struct.pack("<d", value), lambda data: struct.unpack("<d", data)[0]),
    "bool": (lambda value: bytes([value]), lambda data: data != b"\0"),
}


@dataclass(frozen=True)
class Protection:
    """How one dataset protects persons: column `subject` identifies them, columns declared `pii` are encrypted.

    Rows without an identifier share the key of the empty one. Raises ValueError where the schema does not fit.
    """

    dataset_id: str
    schema: DatasetSchema
    subject: str

    def __post_init__(self) -> None:
        """Check that the identifier itself is protected."""
        specs = {column.name: column for column in self.schema.columns}
        spec = specs.get(self.subject)
        if spec is None or not spec.pii or spec.dtype not in {"string", "int64"}:
            raise ValueError(f"the subject must be a pii column of texts or whole numbers, {self.subject!r} is not")
        if specs[self.schema.label].pii or (self.schema.time in specs and specs[self.schema.time].pii):
            raise ValueError("neither the label nor the time can be pii: nobody could learn from ciphertext")

    @staticmethod
    def of(dataset_id: str, schema: DatasetSchema) -> Protection | None:
        """Return how a dataset with this schema protects persons; None: it does not."""
        return Protection(dataset_id, schema, schema.subject) if schema.subject else None

    def identifiers(self, content: Validated) -> set[str]:
        """Identifiers of everybody whom a batch is about: those whose keys `protect` needs."""
        refused = {found for each in content.refused if (found := self._of_raw(each)) is not None}
        return {_identifier(value) for value in content.rows.column(self.subject).to_pylist()} | refused

    def protect(self, content: Validated, keys: Mapping[str, SubjectKey]) -> Validated:
        """Return the batch as it may be stored. `keys` has those of all `identifiers`."""
        rows = content.rows
        of_rows = [keys[_identifier(value)] for value in rows.column(self.subject).to_pylist()]
        for index, field in enumerate(rows.schema):
            if field.name in self._pii:
                sealed = self._sealed(field.name, rows.column(index).to_pylist(), of_rows)
                rows = rows.set_column(index, pa.field(field.name, pa.binary()), pa.array(sealed, pa.binary()))
        rows = rows.append_column(SUBJECT, pa.array([key.pseudonym for key in of_rows], SUBJECT.type))
        return replace(content, rows=rows, refused=tuple(self._refused(each, keys) for each in content.refused))

    def reveal(self, rows: pa.Table, keys: Mapping[str, SubjectKey]) -> pa.Table:
        """Return rows of the table with their personal values, by the subjects' keys; null where a key is gone.

        `keys` are by pseudonym. Raises Undecipherable for what was tampered with.
        """
        subjects = rows.column(SUBJECT.name).to_pylist()
        for index, field in enumerate(rows.schema):
            if field.name in self._pii:
                place, opens = self._place(field.name), _CODES[self._pii[field.name]][1]
                values = [
                    None if sealed is None or who not in keys else opens(keys[who].open(sealed, place))
                    for sealed, who in zip(rows.column(index).to_pylist(), subjects, strict=True)
                ]
                plain = row_schema(self.schema).field(field.name)
                rows = rows.set_column(index, plain, pa.array(values, plain.type))
        return rows

    def reveal_refused(self, rows: pa.Table, keys: Mapping[str, SubjectKey]) -> pa.Table:
        """Return refused records with their original bytes, null where the key is gone."""
        place = self._place(_QUARANTINE)
        raw = [
            sealed if who is None else keys[who].open(sealed, place) if who in keys else None
            for sealed, who in zip(rows.column("raw").to_pylist(), rows.column(SUBJECT.name).to_pylist(), strict=True)
        ]
        return rows.set_column(rows.schema.get_field_index("raw"), "raw", pa.array(raw, pa.binary()))

    def reveal_raw(self, raw: bytes, subject: str | None, keys: Mapping[str, SubjectKey]) -> bytes:
        """Return the original bytes of a refused record; empty where the key is gone."""
        if subject is None:
            return raw
        return keys[subject].open(raw, self._place(_QUARANTINE)) if subject in keys else b""

    def table_schema(self) -> pa.Schema:
        """Arrow schema of the table."""
        return table_schema(self.schema, protected=True)

    @property
    def _pii(self) -> dict[str, str]:
        return {column.name: column.dtype for column in self.schema.columns if column.pii}

    def _place(self, column: str) -> bytes:
        return f"{self.dataset_id}/{column}".encode()

    def _sealed(self, column: str, values: list[Any], keys: list[SubjectKey]) -> list[bytes | None]:
        place, codes = self._place(column), _CODES[self._pii[column]][0]
        return [
            None if value is None else key.seal(codes(value), place) for value, key in zip(values, keys, strict=True)
        ]

    def _refused(self, refused: Refused, keys: Mapping[str, SubjectKey]) -> Refused:
        faults = tuple(replace(fault, got=HIDDEN) for fault in refused.faults)
        found = self._of_raw(refused)
        if found is None:
            return replace(refused, faults=faults)
        key = keys[found]
        return Refused(refused.row, key.seal(refused.raw, self._place(_QUARANTINE)), faults, key.pseudonym)

    def _of_raw(self, refused: Refused) -> str | None:
        """Whom a refused record is about; None where it cannot be taken apart, and where it does not say."""
        value = (
            _from_json(refused.raw, self.subject) if refused.raw[:1] == b"{" else _from_arrow(refused.raw, self.subject)
        )
        return None if value is None or isinstance(value, (list, dict)) else _identifier(value)


def _identifier(value: object) -> str:
    return "" if value is None else str(value)


def _from_json(raw: bytes, name: str) -> object:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any]).get(name)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _from_arrow(raw: bytes, name: str) -> object:
    """Identifier of a single record; whole payloads have several or cannot be read."""
    try:
        with pa.ipc.open_stream(pa.py_buffer(raw)) as reader:
            rows = reader.read_all()
        rows.validate(full=True)
    except (pa.ArrowException, OSError, ValueError):
        return None
    names = rows.column_names
    return rows.column(name)[0].as_py() if rows.num_rows == 1 and names.count(name) == 1 else None
