"""Rows are the same in whatever form they come, and what is wrong with them is said with its place."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_ARROW, DatasetSchema
from holdtrue_lake.forms import text_files
from holdtrue_lake.forms.bad_input import BadInput
from holdtrue_lake.forms.dialect import Dialect
from holdtrue_lake.forms.reading import Part, read_parts, read_sample
from holdtrue_lake.validation import validate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCHEMA = DatasetSchema(
    columns=[
        ColumnSpec(name="amount", dtype="float32"),
        ColumnSpec(name="count", dtype="int64"),
        ColumnSpec(name="name", dtype="string"),
        ColumnSpec(name="known", dtype="bool"),
    ],
    label="known",
)
TIMED = DatasetSchema(columns=SCHEMA.columns, label="known", time="at")
ROWS: list[dict[str, Any]] = [
    {"amount": 1.5, "count": 2**53 + 1, "name": "Łódź", "known": True},
    {"amount": -0.25, "count": None, "name": 'a "quoted", text\nin two lines', "known": False},
    {"amount": None, "count": -7, "name": None, "known": None},
    {"amount": 1e30, "count": 0, "name": "NA", "known": True},
]


def read(source: Any, schema: DatasetSchema = SCHEMA, dialect: Dialect | None = None, most_rows: int = 0) -> pa.Table:
    return pa.Table.from_batches([part.rows for part in read_parts(source, schema, dialect, most_rows=most_rows)])


def table(rows: list[dict[str, Any]] = ROWS) -> pa.Table:
    kinds = [("amount", pa.float64()), ("count", pa.int64()), ("name", pa.string()), ("known", pa.bool_())]
    return pa.Table.from_pylist(rows, pa.schema(kinds))


def expected(rows: list[dict[str, Any]] = ROWS) -> list[dict[str, Any]]:
    return [row | {"amount": None if row["amount"] is None else float(np.float32(row["amount"]))} for row in rows]


def separated(rows: list[dict[str, Any]] = ROWS, **options: Any) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["name", "amount", "known", "count"], lineterminator="\n", **options)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_stream(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table().schema) as writer:
        writer.write_table(table())


def as_arrow(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table().schema) as writer:
        writer.write_table(table())


FILES: dict[str, Callable[[Path], object]] = {
    "commas": lambda path: path.write_text(separated()),
    "semicolons": lambda path: path.write_text(separated(delimiter=";")),
    "tabs": lambda path: path.write_text(separated(delimiter="\t")),
    "windows line ends": lambda path: path.write_bytes(separated(delimiter=";").replace("\n", "\r\n").encode()),
    "mark of UTF-8": lambda path: path.write_text(separated(), encoding="utf-8-sig"),
    "UTF-16": lambda path: path.write_text(separated(), encoding="utf-16"),
    "gzip": lambda path: path.write_bytes(gzip.compress(separated().encode())),
    "bzip2": lambda path: path.write_bytes(bz2.compress(separated().encode())),
    "zstd": lambda path: path.write_bytes(pa.compress(separated().encode(), "zstd", asbytes=True)),
    "JSON lines": lambda path: path.write_text("\n\n".join(map(json.dumps, ROWS))),
    "JSON lines in gzip": lambda path: path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode())),
    "Parquet": lambda path: pq.write_table(table(), path, row_group_size=3),
    "Arrow stream": as_stream,
    "Arrow file": as_arrow,
}


def fitting(text: str, form: str) -> str:
    """A text's line ends change with the file's."""
    return text.replace("\n", "\r\n") if form == "windows line ends" else text


@pytest.mark.parametrize("form", FILES)
def test_every_form_of_file_gives_the_same_rows(form: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    FILES[form](path)

    found = read(path)

    want = [row | {"name": row["name"] and fitting(row["name"], form)} for row in expected()]
    assert found.to_pylist() == want
    assert [str(kind) for kind in found.schema.types] == ["float", "int64", "string", "bool"]


NUMBERS: dict[str, Any] = {
    "amount": np.array([1.5, np.nan, 2.5]),
    "count": np.array([1, 2, 3], np.int32),
    "name": np.array(["a", "b", "c"]),
    "known": np.array([True, False, True]),
}


FRAME: Any = pd.DataFrame(NUMBERS)


def records() -> Any:
    array = np.zeros(3, [("amount", "f8"), ("count", "i4"), ("name", "U1"), ("known", "?")])
    for name, values in NUMBERS.items():
        array[name] = values
    return array


MEMORY: dict[str, Callable[[], Any]] = {
    "arrow": lambda: pa.table(NUMBERS),
    "arrow batch": lambda: pa.table(NUMBERS).to_batches()[0],
    "arrow reader": lambda: pa.table(NUMBERS).to_reader(),
    "dict of arrays": lambda: NUMBERS,
    "dict of lists": lambda: {name: values.tolist() for name, values in NUMBERS.items()},
    "list of dicts": lambda: pa.table(NUMBERS).to_pylist(),
    "numpy records": records,
    "pandas": lambda: FRAME,
    "pandas, filtered": lambda: FRAME.set_axis(["x", "y", "x"]),
    "pandas, objects": lambda: FRAME.astype({"name": object, "known": object}),
    "pandas, categories": lambda: FRAME.assign(name=pd.Categorical(NUMBERS["name"])),
    "polars": lambda: pl.DataFrame(NUMBERS),
    "polars, categories": lambda: pl.DataFrame(NUMBERS, schema_overrides={"name": pl.Categorical}),
    "polars, lazy": lambda: pl.LazyFrame(NUMBERS),
}


@pytest.mark.parametrize("form", MEMORY)
def test_every_form_in_memory_gives_the_same_rows(form: str) -> None:
    found = read(MEMORY[form](), most_rows=2)

    amounts = [None if value is None or value != value else value for value in found.column("amount").to_pylist()]  # noqa: PLR0124
    assert amounts == [1.5, None, 2.5]
    assert found.drop_columns("amount").to_pydict() == {
        "count": [1, 2, 3],
        "name": ["a", "b", "c"],
        "known": [True, False, True],
    }
    assert [str(kind) for kind in found.schema.types] == ["float", "int64", "string", "bool"]


def test_numpy_files(tmp_path: Path) -> None:
    numbers = DatasetSchema(columns=[ColumnSpec(name=name, dtype="float32") for name in "ab"], label="b")
    matrix = np.arange(200_000, dtype=np.float64).reshape(-1, 2)
    np.save(tmp_path / "matrix.npy", matrix)
    np.savez(tmp_path / "columns.npz", a=matrix[:, 0], b=matrix[:, 1])

    for name in ("matrix.npy", "columns.npz"):
        found = read(tmp_path / name, numbers)
        assert np.array_equal(found.column("b").to_numpy(), matrix[:, 1].astype(np.float32))
    with pytest.raises(BadInput, match=r"shape \(rows, 4\), got \(100000, 2\)"):
        read(tmp_path / "matrix.npy")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match="numpy data"):
        read(tmp_path / "objects.npy", numbers)


def test_decimal_commas_thousands_dates_and_words(tmp_path: Path) -> None:
    path = tmp_path / "german.csv"
    path.write_text(
        "Umsätze\nname;amount;known;count;at\n"
        "Müller;1.234,5;ja;1.000;29.03.2026 01:59\n"
        "Weiß;-0,25;nein;12;29.03.2026 03:00\n"
        "X;;-;;\n",
        encoding="cp1252",
    )
    dialect = Dialect(
        separator=";",
        decimal=",",
        thousands=".",
        encoding="cp1252",
        yes=("ja",),
        no=("nein",),
        times={"at": "%d.%m.%Y %H:%M"},
        zone="Europe/Berlin",
        skip=1,
    )

    assert read(path, TIMED, dialect).to_pylist() == [
        {
            "amount": 1234.5,
            "count": 1000,
            "name": "Müller",
            "known": True,
            "at": datetime(2026, 3, 29, 0, 59, tzinfo=UTC),
        },
        {"amount": -0.25, "count": 12, "name": "Weiß", "known": False, "at": datetime(2026, 3, 29, 1, 0, tzinfo=UTC)},
        {"amount": None, "count": None, "name": "X", "known": None, "at": None},
    ]


def test_a_comma_for_the_decimal_point_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("name;amount;known;count\na;1,5;1;2\nb;2;0;3\nc;2,25;0;3\n")

    assert read(path).column("amount").to_pylist() == [1.5, 2.0, 2.25]


@pytest.mark.parametrize("text", ["2026-03-01T12:00:00Z", "1772366400", "1772366400.0", "2026-03-01 13:00:00+01:00"])
def test_times_of_events_in_any_usual_form(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"name,amount,known,count,at\na,1,1,1,{text}\n")

    assert read(path, TIMED).column("at").to_pylist() == [datetime(2026, 3, 1, 12, tzinfo=UTC)]


BAD_LINES = {
    "text in a number": ("a,1,1,1\nb,x,1,1\n", ", line 3, column amount: expected a number, got 'x'"),
    "point in a whole number": ("a,1,1,1.5\n", ", line 2, column count: expected a whole number, got '1.5'"),
    "whole number too large": (f"a,1,1,{2**63}\n", f", line 2, column count: expected a whole number, got '{2**63}'"),
    "comma in a number": ('a,"1,5",1,1\n', ", line 2, column amount: expected a number, got '1,5'"),
    "endless": ("a,inf,1,1\n", ", line 2, column amount: expected a number, got 'inf'"),
    "beyond float32": ("a,1e39,1,1\n", ", line 2, column amount: expected a number that fits into float32, got '1e39'"),
    "no truth value": ("a,1,maybe,1\n", ", line 2, column known: expected true or false, got 'maybe'"),
    "after a text of two lines and an empty line": ('"a\nb",1,1,1\n\nc,y,1,1\n', ", line 5, column amount: expected"),
    "too few cells": ("a,1,1,1\n\nb,1,1\n", ", line 4: expected 4 cells, as the header has, got 3"),
    "too many cells": ("a,1,1,1\nb,1,1,1,1\n", ", line 3: expected 4 cells, as the header has, got 5"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_what_is_wrong_with_a_file_of_values_is_said_with_its_place(case: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    body, message = BAD_LINES[case]
    path.write_text("name,amount,known,count\n" + body)

    with pytest.raises(BadInput) as raised:
        read(path)

    assert str(raised.value).startswith(f"{path}{message}"), str(raised.value)


HEAD = b"name,amount,known,count\n"
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", ": expected a header with the names of the columns, got nothing"),
    "wrong names": (b"name,amount,known,sum\n", ": expected the columns .*, got missing count; unknown sum"),
    "name twice": (b"name,amount,amount,known,count\n", "expected every column to have a name of its own, got several"),
    "no name": (b"name,,known,count\n", "expected every column to have a name of its own, got one without"),
    "other encoding": (HEAD + b"M\xfcller,1,1,1\n", ", line 2: expected text in utf-8, .* 'Müller,1,1,' if"),
    "broken JSON": (b'{"amount": 1}\n\n{"amount": \n', ", line 3: expected one JSON object a line, got "),
    "list of JSON": (b'[{"amount": 1}]', ", line 1: expected one JSON object a line, got a list"),
    "wrong JSON": (b'{"amount": 1}\n{"count": "1"}', ", line 2, column count: expected a whole number, got '1'"),
    "foreign JSON": (b'{"amount": 1}\n{"sum": 3}', ", line 2, column sum: expected one of the columns .*, got 3"),
    "no Parquet": (b"PAR1....PAR1", ": expected a Parquet file, got "),
    "no Arrow file": (b"ARROW1\0\0....", ": expected an Arrow file, got "),
    "no Arrow stream": (b"\xff\xff\xff\xff\x10\0\0\0....", ": expected an Arrow stream, got "),
    "no numpy": (b"\x93NUMPY\x01\0....", ": expected numpy data, got "),
    "cut gzip": (gzip.compress(separated().encode())[:-20], ": expected gzip data, got "),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_are_not_what_they_seem(case: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    data, message = BAD_FILES[case]
    path.write_bytes(data)

    with pytest.raises(BadInput, match=message):
        read(path)


def test_undecodable_bytes_beyond_the_beginning_are_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"name,amount,known,count\n" + b"x,1,1,1\n" * 20_000 + b"\xe9,1,1,1\n")

    with pytest.raises(
        BadInput, match=r"line 20002: expected text in utf-8, got byte 0xe9, which would read 'é,1,1,1'"
    ):
        read(path)


@pytest.mark.parametrize("ending", [b"PAR1", b""])
def test_cut_and_flipped_tables_are_refused(ending: bytes, tmp_path: Path) -> None:
    path, rows = tmp_path / "rows", table(ROWS * 1_000)
    pq.write_table(rows, path, compression="none", write_page_checksum=True)
    good = path.read_bytes()
    if ending:
        at = good.index(b"quoted") + 2
        path.write_bytes(good[:at] + b"X" + good[at + 1 :])
    else:
        path.write_bytes(good[: len(good) // 2])

    with pytest.raises(BadInput, match=r"expected (Parquet data|a Parquet file), got"):
        read(path)


def test_a_cut_stream_gives_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table().schema) as writer:
        for _ in range(3):
            writer.write_table(table())
    path.write_bytes(path.read_bytes()[:-300])
    parts: list[Part] = []

    with pytest.raises(BadInput, match=r", row 9: expected Arrow data, got "):
        parts.extend(read_parts(path, SCHEMA, most_rows=4))

    assert [part.position.rows for part in parts] == [4, 8]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([{"amount": "x"}], "row 1, column amount: expected a number, got 'x'"),
        ([{"amount": 1}, 2], "rows, row 2: expected a dict, got a int"),
        (
            {"amount": [1, "x"], "count": [1, 1], "name": ["", ""], "known": [True, True]},
            "column amount: expected values of one type, got ",
        ),
        (
            {"amount": [1.0], "count": [1, 2], "name": [], "known": []},
            "column amount: expected 2 values in a row, got 1 values",
        ),
        (np.zeros(3), r"array: expected a structured array, or one of shape \(rows, 4\), got \(3,\)"),
        (7, "rows: expected a file or a table, as of Arrow, pandas, polars or numpy, got a int"),
    ],
)
def test_what_is_wrong_in_memory(source: Any, message: str) -> None:
    small = DatasetSchema(columns=SCHEMA.columns, label="known")
    if isinstance(source, list):
        source = [{"count": 1, "name": "a", "known": True} | row if isinstance(row, dict) else row for row in source]
    with pytest.raises(BadInput, match=message):
        read(source, small)


def test_all_faults_are_counted_and_the_first_are_named_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("name,amount,known,count\n" + "a,x,1,y\n" * 100)

    with pytest.raises(BadInput) as raised:
        read(path)

    assert raised.value.count == 200
    assert [fault.place.line for fault in raised.value.faults] == [2 + i // 2 for i in range(20)]
    assert str(raised.value).endswith("\nand 180 more")


def test_personal_values_are_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("age\nAda Lovelace\n")
    schema = DatasetSchema(columns=[ColumnSpec(name="age", dtype="int64", pii=True)], label="age")

    with pytest.raises(BadInput, match=r"line 2, column age: expected a whole number, got a str \(hidden: personal\)"):
        read(path, schema)


@pytest.mark.parametrize("zone", ["Europe/Berlin"])
@pytest.mark.parametrize("hour", ["25.10.2026 02:30", "29.03.2026 02:30", "31.02.2026 12:00"])
def test_local_times_that_a_clock_shows_twice_or_never_are_refused(hour: str, zone: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"name,amount,known,count,at\na,1,1,1,{hour}\n")

    with pytest.raises(BadInput, match=f"line 2, column at: expected .*, got '{hour}'"):
        read(path, TIMED, Dialect(times={"at": "%d.%m.%Y %H:%M"}, zone=zone))


@pytest.mark.parametrize("form", [form for form in FILES if form != "windows line ends"])
def test_reading_goes_on_where_it_stopped(form: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    FILES[form](path)
    whole = list(read_parts(path, SCHEMA, most_rows=1))

    for stop, after in enumerate(whole):
        rest = list(read_parts(path, SCHEMA, after=after.position, most_rows=1))
        assert [part.rows.to_pylist() for part in rest] == [part.rows.to_pylist() for part in whole[stop + 1 :]]
        assert [part.position for part in rest] == [part.position for part in whole[stop + 1 :]]
    assert [part.position.rows for part in whole] == [1, 2, 3, 4]


def test_a_file_that_has_changed_is_not_read_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(separated())
    position = next(read_parts(path, SCHEMA, most_rows=1)).position
    path.write_text(separated(ROWS * 2))

    with pytest.raises(BadInput, match="one that has changed since"):
        next(read_parts(path, SCHEMA, after=position))


def test_a_large_file_streams_with_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_BLOCK", 1 << 16)  # Arrow reads dozens of blocks ahead
    path = tmp_path / "rows.csv"
    with path.open("w") as file:
        file.write("name,amount,known,count\n")
        file.writelines(f"name {i},{i / 2},1,{i}\n" for i in range(200_000))
    parts: list[Part] = []
    most = 0
    for part in read_parts(path, SCHEMA):
        parts.append(Part(part.rows.slice(0, 1), part.position, part.done, part.size))
        most = max(most, part.rows.get_total_buffer_size())

    assert [part.position.rows for part in parts] == [*range(65_536, 200_000, 65_536), 200_000]
    assert most < 8 << 20, "one part is in memory, not the file"
    assert all(a.done <= b.done for a, b in itertools.pairwise(parts))
    assert 0 < parts[0].done < parts[-1].done == parts[-1].size == path.stat().st_size


def test_what_is_read_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("name,amount,known,count,at\na,1,1,2,1772366400\n")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, (rows := read(path, TIMED)).schema) as writer:
        writer.write_table(rows)

    now = datetime(2026, 3, 2, tzinfo=UTC)
    valid = validate(TIMED, sink.getvalue().to_pybytes(), RECORD_FORMAT_ARROW, now)

    assert not valid.refused
    assert valid.rows.column("_event_time").to_pylist() == [datetime(2026, 3, 1, 12, tzinfo=UTC)]


@pytest.mark.parametrize("form", FILES)
def test_a_sample_has_the_types_to_infer_from(form: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    FILES[form](path)

    sample = read_sample(path)

    kinds = {"amount": "double", "count": "int64", "name": "string", "known": "bool"}
    assert {field.name: str(field.type) for field in sample.schema} == kinds
    assert sample.column("count").to_pylist() == [2**53 + 1, None, -7, 0]


def test_a_sample_of_values_of_several_types_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text('{"a": "x"}\n{"a": 1}\n')

    with pytest.raises(BadInput, match="line 2, column a: expected values of one type, got 1"):
        read_sample(path)
    with pytest.raises(BadInput, match="no such file: expected a file that can be read"):
        read_sample(tmp_path / "no such file")


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t\"';,|"), min_size=1, max_size=9)
ROW = st.fixed_dictionaries(
    {
        "amount": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
        "count": st.none() | st.integers(-(2**63), 2**63 - 1),
        "name": st.none() | TEXT,
        "known": st.none() | st.booleans(),
    }
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=6), mark=st.sampled_from(",;\t|"), point=st.sampled_from(".,"))
def test_what_python_writes_is_read_as_it_was(
    rows: list[dict[str, Any]], mark: str, point: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    written = [row | {"amount": str(row["amount"]).replace(".", point)} for row in rows]
    path.write_text(separated(written, delimiter=mark), encoding="utf-8", newline="")

    found = read(path, dialect=Dialect(separator=mark, decimal=point), most_rows=2)

    assert found.to_pylist() == rows
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read(path, most_rows=2).to_pylist() == rows
