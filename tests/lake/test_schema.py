from __future__ import annotations

import pytest
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema
from holdtrue_lake.schema import schema_id, schema_problems, table_schema


def test_a_usable_schema_has_no_problems(schema: DatasetSchema) -> None:
    assert list(schema_problems(schema)) == []


@pytest.mark.parametrize(
    ("column", "field", "text"),
    [
        (ColumnSpec(name="", dtype="int64"), "schema.columns[4].name", "needs a name"),
        (ColumnSpec(name="_commit", dtype="int64"), "schema.columns[4].name", "are the platform's"),
        (ColumnSpec(name="AMOUNT", dtype="int64"), "schema.columns[4].name", "two columns"),
        (ColumnSpec(name="x\n", dtype="int64"), "schema.columns[4].name", "printable"),
        (ColumnSpec(name="x", dtype="decimal"), "schema.columns[4].dtype", "float32, int64, string, bool"),
        (ColumnSpec(name="x", dtype="int64", categories=["1"]), "schema.columns[4].categories", "only string"),
    ],
)
def test_every_problem_names_its_field(schema: DatasetSchema, column: ColumnSpec, field: str, text: str) -> None:
    schema.columns.append(column)

    [(found, problem)] = schema_problems(schema)

    assert found == field
    assert text in problem


def test_label_and_time_must_make_sense(schema: DatasetSchema) -> None:
    schema.label = schema.time = "at"

    assert [field for field, _ in schema_problems(schema)] == ["schema.label", "schema.time"]
    assert [field for field, _ in schema_problems(DatasetSchema())] == ["schema.columns", "schema.label"]


def test_equal_schemas_have_equal_ids(schema: DatasetSchema) -> None:
    other = DatasetSchema()
    other.CopyFrom(schema)
    assert schema_id(other) == schema_id(schema)

    other.columns[0].unit = "EUR"
    assert schema_id(other) != schema_id(schema)


def test_the_table_has_the_datasets_columns_first(schema: DatasetSchema) -> None:
    names = table_schema(schema).names

    assert names[:4] == ["amount", "country", "known", "fraud"]
    assert names[4:] == ["_commit", "_part", "_off", "_row", "_event_time", "_ingest_time"]
