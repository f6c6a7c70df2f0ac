"""A dataset about persons, its key table in memory, and a writer of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_JSON_LINES, DatasetSchema
from holdtrue_lake.protection import Protection
from holdtrue_lake.subjects import SubjectKey, new_secret, normal
from holdtrue_lake.table import DatasetTable, Offer, Source
from holdtrue_lake.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdtrue_lake.commits import Commit
    from holdtrue_lake.storage import Root

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCE = Source("cluster", "topic", 0)
SCHEMA = DatasetSchema(
    columns=[
        ColumnSpec(name="email", dtype="string", pii=True),
        ColumnSpec(name="amount", dtype="float32"),
        ColumnSpec(name="age", dtype="int64", pii=True),
        ColumnSpec(name="fraud", dtype="int64"),
    ],
    label="fraud",
)


def person(number: int) -> str:
    return f"person.{number}@example.org"


class Persons:
    """Row `r` of commit `c` about person `p` has amount `1000 * c + r` and age `p`."""

    def __init__(self, root: Root, dataset_id: str) -> None:
        self.root, self.dataset_id = root, dataset_id
        self.protection = Protection(dataset_id, SCHEMA, "email")
        self.table = DatasetTable(root, dataset_id, SCHEMA, protected=True)
        self.keys: dict[str, SubjectKey] = {}
        self._offset = 0

    def append(self, persons: Iterable[int], refused: Iterable[int] = (), broken: Sequence[str] = ()) -> Commit:
        """One commit: accepted records of persons, refused ones of others, lines that are no records."""
        records = [self._record(number, row) for row, number in enumerate(persons)]
        records += [self._record(number, 0) | {"fraud": person(number)} for number in refused]
        payload = "\n".join([*map(json.dumps, records), *broken]).encode()
        content = validate(SCHEMA, payload, RECORD_FORMAT_JSON_LINES, NOW)
        keys = {name: self.key(name) for name in self.protection.identifiers(content)}
        self._offset += 1
        offer = Offer(self._offset, f"batch {self._offset}", self.protection.protect(content, keys))
        commit = self.table.ingest(SOURCE, [offer], NOW)
        assert commit is not None
        return commit

    def key(self, identifier: str) -> SubjectKey:
        return self.keys.setdefault(normal(identifier), SubjectKey.of(new_secret(), identifier))

    def pseudonyms(self, persons: Iterable[int]) -> list[str]:
        return [self.key(person(number)).pseudonym for number in persons]

    def by_pseudonym(self) -> dict[str, SubjectKey]:
        return {key.pseudonym: key for key in self.keys.values()}

    def _record(self, number: int, row: int) -> dict[str, Any]:
        return {"email": person(number), "amount": 1000 * self._offset + row, "age": number, "fraud": 0}
