"""What a dataset's columns are, and how they lie in a table."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema

ARROW_TYPES: dict[str, pa.DataType] = {
    "float32": pa.float32(),
    "int64": pa.int64(),
    "string": pa.string(),
    "bool": pa.bool_(),
}
"""Arrow type of each dtype that a column may declare."""

LAKE_FIELDS = (
    pa.field("_commit", pa.int64(), nullable=False),
    pa.field("_part", pa.int32(), nullable=False),
    pa.field("_off", pa.int64(), nullable=False),
    pa.field("_row", pa.int32(), nullable=False),
    pa.field("_event_time", pa.timestamp("us", "UTC"), nullable=False),
    pa.field("_ingest_time", pa.timestamp("us", "UTC"), nullable=False),
)
"""Columns that every row gets besides its own: commit, the row's identity in the log, and its times."""

SUBJECT = pa.field("_subject", pa.string())
"""Pseudonym of the person a row is about; only in tables that protect persons."""

MOST_COLUMNS = 10_000
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,255}")


def arrow_type(schema: DatasetSchema, column: ColumnSpec) -> pa.DataType:
    """Arrow type of a column; seconds since the epoch need float64, because float32 keeps them to two minutes only."""
    if column.name == schema.time and column.dtype == "float32":
        return pa.float64()
    return ARROW_TYPES[column.dtype]


def row_schema(schema: DatasetSchema) -> pa.Schema:
    """Arrow schema of the dataset's own columns, in declared order."""
    return pa.schema([pa.field(column.name, arrow_type(schema, column)) for column in schema.columns])


def table_schema(schema: DatasetSchema, *, protected: bool = False) -> pa.Schema:
    """Arrow schema of the dataset's table: its own columns, then the lake's.

    Where persons are `protected`, their columns (`pii`) are ciphertexts, and the last one is `_subject`.
    """
    if not protected:
        return pa.schema([*row_schema(schema), *LAKE_FIELDS])
    pii = {column.name for column in schema.columns if column.pii}
    own = [pa.field(field.name, pa.binary()) if field.name in pii else field for field in row_schema(schema)]
    return pa.schema([*own, *LAKE_FIELDS, SUBJECT])


def schema_id(schema: DatasetSchema) -> str:
    """sha256 of the schema's canonical form, hexadecimal: equal schemas have equal ids."""
    columns = [
        [c.name, c.dtype, list(c.categories), c.unit, c.pii, c.segment]  # fixed order: this is hashed
        for c in schema.columns
    ]
    subject = [schema.subject] if schema.subject else []  # ids of schemas without one are as they were before it
    return hashlib.sha256(msgspec.json.encode([columns, schema.label, schema.time, *subject])).hexdigest()


def schema_problems(schema: DatasetSchema) -> Iterator[tuple[str, str]]:
    """Yield (field, what is wrong and what to do) for everything that bars this schema from being used."""
    if not 1 <= len(schema.columns) <= MOST_COLUMNS:
        yield "schema.columns", f"expected 1 to {MOST_COLUMNS} columns, got {len(schema.columns)}"
    seen: set[str] = set()
    for index, column in enumerate(schema.columns):
        yield from _column_problems(f"schema.columns[{index}]", column, seen)
        seen.add(column.name.lower())
    names = {column.name for column in schema.columns}
    if schema.label not in names:
        yield "schema.label", f"the label {schema.label!r} is not among the columns; name one of {sorted(names)[:20]}"
    if schema.time and schema.time == schema.label:
        yield "schema.time", f"column {schema.time!r} cannot be both label and time"
    if schema.subject:
        yield from _subject_problems(schema)


def _subject_problems(schema: DatasetSchema) -> Iterator[tuple[str, str]]:
    """Where persons are protected, the column that names them must be, and what models need must not be encrypted."""
    specs = {column.name: column for column in schema.columns}
    spec = specs.get(schema.subject)
    if spec is None:
        yield "schema.subject", f"{schema.subject!r} is not among the columns; name one of {sorted(specs)[:20]}"
        return
    if spec.dtype not in {"string", "int64"}:
        yield "schema.subject", f"a person is named by a string or an int64, {spec.name!r} is {spec.dtype}"
    if not spec.pii:
        yield "schema.subject", f"column {spec.name!r} names persons: mark it as personal (pii)"
    for role, name in (("label", schema.label), ("time", schema.time)):
        if name in specs and specs[name].pii:
            yield f"schema.{role}", f"column {name!r} is personal and would be encrypted; a {role} cannot be"


def _column_problems(field: str, column: ColumnSpec, seen: set[str]) -> Iterator[tuple[str, str]]:
    if not _NAME.fullmatch(column.name):
        yield f"{field}.name", f"a column needs a name of 1 to 255 printable characters, got {column.name!r}"
    if column.name.startswith("_"):
        yield f"{field}.name", f"names that start with an underscore are the platform's; rename {column.name!r}"
    if column.name.lower() in seen:
        yield f"{field}.name", f"two columns are called {column.name!r} (upper and lower case count as equal)"
    if column.dtype not in ARROW_TYPES:
        yield f"{field}.dtype", f"expected one of {', '.join(ARROW_TYPES)}, got {column.dtype!r}"
    if column.categories and column.dtype != "string":
        yield f"{field}.categories", f"only string columns have categories, {column.name!r} is {column.dtype}"
