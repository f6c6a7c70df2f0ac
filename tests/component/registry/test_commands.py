"""`holdtrue datasets` and `holdtrue data` against a real registry."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from holdtrue_lake.rules_yaml import load
from pyarrow import parquet

from tests.component.registry.harness import run_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.component.registry.harness import Done


def table(rows: int = 200, least: float = 0.0) -> pa.Table:
    return pa.table(
        {
            "amount": pa.array([least + row % 50 for row in range(rows)], pa.float64()),
            "country": [("DE", "FR")[row % 2] for row in range(rows)],
            "booked_at": [f"2026-01-01T00:{row % 60:02}:00" for row in range(rows)],
            "fraud": [row % 2 for row in range(rows)],
        }
    )


def csv(rows: pa.Table) -> str:
    lines = [",".join(rows.column_names), *(",".join(map(str, row.values())) for row in rows.to_pylist())]
    return "\n".join(lines) + "\n"


def test_from_a_sample_to_rules_to_refused_records(holdtrue: Callable[[str], Done], tmp_path: Path, name: str) -> None:
    (tmp_path / "jan.csv").write_text(csv(table()))
    proposed = holdtrue("data infer jan.csv --label fraud --time booked_at")
    (tmp_path / "rules.yaml").write_text(proposed.out)
    assert holdtrue(f"datasets add {name} jan.csv --rules rules.yaml -o json").json["rows"] == 200
    parquet.write_table(table(3, least=-1.5), tmp_path / "feb.parquet")

    added = holdtrue(f"datasets add {name} feb.parquet")

    assert "proposed from 200 rows" in proposed.err
    assert load(proposed.out).columns["country"].one_of == ["DE", "FR"]
    assert added.code == 0
    assert "! 2 of 3 rows were refused" in added.err
    assert f"holdtrue data rejects {name}" in added.err
    shown = holdtrue(f"data rejects {name}")
    assert "2 records refused: 2 OUT_OF_RANGE" in shown.err
    assert [line.split()[2:5] for line in shown.out.splitlines()[1:]] == [
        ["0", "OUT_OF_RANGE", "amount"], ["1", "OUT_OF_RANGE", "amount"],
    ]  # fmt: skip
    [first, second] = holdtrue(f"data rejects {name} --bytes -o json").json
    with pa.ipc.open_stream(base64.b64decode(second["raw_base64"])) as reader:
        assert reader.read_all().to_pylist() == table(3, least=-1.5).slice(1, 1).to_pylist()
    assert first["faults"][0] == {
        "code": "OUT_OF_RANGE", "column": "amount", "expected": "at least 0", "got": "-1.5",
        "rule": "amount.min",
    }  # fmt: skip
    assert holdtrue(f"data rejects {name} --limit 1 -o name").out == f"{first['batch_id']}/0\n"
    assert holdtrue(f"data rejects {name} --batch {first['batch_id']} --code MISSING").err == "no record was refused\n"


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_files_of_every_form_give_the_same_rules(holdtrue: Callable[[str], Done], tmp_path: Path, form: str) -> None:
    (tmp_path / "sample.csv").write_text(csv(table()))
    if form == "parquet":
        parquet.write_table(table(), tmp_path / "sample.parquet")
    else:
        (tmp_path / "sample.jsonl").write_text("\n\n".join(map(json.dumps, table().to_pylist())))

    proposed = holdtrue(f"data infer sample.{form} --label fraud --time booked_at -o json").json

    from_csv = holdtrue("data infer sample.csv --label fraud --time booked_at -o json").json
    assert load(proposed["rules"]).columns.keys() == load(from_csv["rules"]).columns.keys()
    assert (proposed["rows"], proposed["schema"]["label"], proposed["schema"]["time"]) == (200, "fraud", "booked_at")
    if form == "parquet":
        assert proposed == from_csv


def test_rules_are_shown_tried_and_put_in_force(holdtrue: Callable[[str], Done], tmp_path: Path, name: str) -> None:
    (tmp_path / "jan.csv").write_text(csv(table()))
    (tmp_path / "good.yaml").write_text("version: 1\ncolumns: {amount: {max: 100}}\n")
    (tmp_path / "bad.yaml").write_text("version: 1\ncolumns:\n  amuont: {max: 100}\n")
    holdtrue(f"datasets add {name} jan.csv --label fraud --time booked_at")

    none = holdtrue(f"datasets rules {name}")
    bad = holdtrue(f"datasets rules {name} bad.yaml --dry-run")
    unsaid = holdtrue(f"datasets rules {name} good.yaml")
    trial = holdtrue(f"datasets rules {name} good.yaml --dry-run -o json")
    put = holdtrue(f"datasets rules {name} good.yaml --reason limits -o json")
    late = holdtrue(f"datasets add {name} jan.csv --rules good.yaml")

    assert (none.code, bad.code, unsaid.code, late.code) == (3, 6, 2, 6)
    assert "its schema alone counts" in none.err
    assert "line 3: columns.amuont: there is no such column" in bad.err
    assert "--reason" in unsaid.err
    assert "put them in force by themselves" in late.err
    assert put.json["digest"] == trial.json["digest"]
    assert (put.json["number"], put.json["reason"]) == (1, "limits")
    assert holdtrue(f"datasets rules {name}").out == (tmp_path / "good.yaml").read_text()
    assert holdtrue(f"datasets rules {name} --number 1 -o name").code == 0


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("a.jsonl", '{"a": 1}\n\n{"a": }\n', "a.jsonl, line 3: expected one JSON object a line"),
        ("a.jsonl", '{"a": 1}\n{"a": "x"}\n', "a.jsonl, line 2: expected one JSON object a line, with values of one"),
        ("a.parquet", "junk", "a.parquet: expected a Parquet file"),
        ("a.csv", "a\n", "a.csv: expected rows after the header, got none"),
        ("a.jsonl", '{"a": [1]}\n', "column 'a' is list"),
        ("none.parquet", None, "none.parquet: No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained(
    holdtrue: Callable[[str], Done], tmp_path: Path, file: str, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / file).write_text(content)

    done = holdtrue(f"data infer {file}")

    assert done.code == 6
    assert says in done.err
    assert done.out == ""


def test_refused_records_of_an_unknown_dataset(holdtrue: Callable[[str], Done]) -> None:
    done = holdtrue("data rejects nothing -o json")

    assert done.code == 3
    assert json.loads(done.err)["next"] == "holdtrue datasets list"


def test_what_the_docs_say_about_rules_runs(holdtrue: Callable[[str], Done], tmp_path: Path, name: str) -> None:
    (tmp_path / "january.csv").write_text(csv(table()))
    (tmp_path / "february.jsonl").write_text("\n".join(map(json.dumps, table(10, least=-1.0).to_pylist())))

    lines = run_page("rules.md", holdtrue, tmp_path, name)

    assert len(lines) >= 6
    assert [row["row"] for row in holdtrue(f"data rejects {name} -o json").json] == [0]


def test_what_the_docs_say_about_versions_runs(holdtrue: Callable[[str], Done], tmp_path: Path, name: str) -> None:
    for number, month in enumerate(("january", "february", "march")):
        (tmp_path / f"{month}.csv").write_text(csv(table(20 + number, least=number)))

    lines = run_page("versions.md", holdtrue, tmp_path, name)

    assert len(lines) >= 8
    versions = holdtrue(f"datasets show {name} -o json").json
    assert [(v["version"], v["rows"], v["status"], v["restores"]) for v in versions] == [
        (5, 20, "published", 1), (4, 42, "published", 0), (3, 63, "retracted", 0), (2, 41, "retracted", 0),
        (1, 20, "published", 0),
    ]  # fmt: skip


@pytest.fixture
def grown(holdtrue: Callable[[str], Done], tmp_path: Path, name: str) -> str:
    """Name of a dataset with two versions of 20 and 41 rows."""
    for number in range(2):
        (tmp_path / f"{number}.csv").write_text(csv(table(20 + number, least=number)))
        assert holdtrue(f"datasets add {name} {number}.csv --label fraud --time booked_at").code == 0
    return name


def test_versions_are_compared(holdtrue: Callable[[str], Done], grown: str) -> None:
    shown = holdtrue(f"datasets diff {grown}@2")
    document = holdtrue(f"datasets diff {grown}@1 {grown}@latest -o json").json
    other = holdtrue(f"datasets diff {grown}@1 other@2")

    assert "20 → 41" in shown.out
    assert "PSI" in shown.out
    assert (document["rows_added"], document["rows_removed"], document["commits_added"]) == (21, 0, "1")
    assert {column["column"] for column in document["columns"]} == {"amount", "country", "booked_at", "fraud"}
    assert (other.code, "two versions of one dataset" in other.err) == (2, True)
    assert holdtrue(f"datasets diff {grown}@1 --no-statistics").code == 6  # the first came of none


def test_taking_back_asks_first_and_can_be_tried(holdtrue: Callable[[str], Done], grown: str) -> None:
    trial = holdtrue(f"datasets retract {grown} --commits 0 --reason broken --dry-run -o json").json
    unasked = holdtrue(f"datasets retract {grown} --commits 0 --reason broken")
    done = holdtrue(f"datasets retract {grown} --commits 0 --reason broken --yes -o json").json
    again = holdtrue(f"datasets retract {grown} --commits 0 --reason broken --yes")

    assert (trial["name"], trial["rows"], trial["flagged"]) == (f"{grown}@3", 21, [f"{grown}@1", f"{grown}@2"])
    assert unasked.code == 2
    assert "would leave out 20 rows of commits 0 (1 batches)" in unasked.err
    assert "repeat with --yes" in unasked.err
    assert done["version"]["digest"] == trial["version"]["digest"]
    assert (again.code, "retracted already" in again.err) == (5, True)
    [newest, oldest] = holdtrue(f"datasets commits {grown} -o json").json
    assert (newest["retracted"], oldest["retracted"]) == (False, True)
    batch = newest["batch_ids"][0]
    assert holdtrue(f"datasets retract {grown} --batch {batch} --reason gone --dry-run -o json").json["rows"] == 0


def test_rolling_back_asks_first_and_can_be_tried(holdtrue: Callable[[str], Done], grown: str) -> None:
    trial = holdtrue(f"datasets rollback {grown}@1 --reason twice --dry-run -o json").json
    unasked = holdtrue(f"datasets rollback {grown}@1 --reason twice")
    done = holdtrue(f"datasets rollback {grown}@1 --reason twice --yes -o json").json

    assert (trial["rows"], trial["restores"], trial["commits_removed"]) == (20, f"{grown}@1", "1")
    assert (unasked.code, "would leave out 21 rows of commits 1" in unasked.err) == (2, True)
    assert (done["name"], done["reason"]) == (f"{grown}@3", "twice")


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("datasets retract NAME --reason x", 2, "--commits or --batch"),
        ("datasets retract NAME --commits 1-x --reason x", 2, "numbers and ranges such as 3,5-7"),
        ("datasets retract NAME --commits 99 --reason x", 6, "no commits 99"),
        ("datasets retract NAME --commits 1", 2, "--reason"),
        ("datasets rollback NAME --reason x", 2, "the number of the older version"),
        ("datasets rollback NAME@9 --reason x", 3, "no version 9; its newest is 2"),
        ("datasets rollback nothing@1 --reason x", 3, "holdtrue datasets list"),
        ("datasets commits nothing", 3, "holdtrue datasets list"),
        ("datasets diff NAME@7", 3, "no version 7"),
    ],
)
def test_what_cannot_be_done_is_explained(
    holdtrue: Callable[[str], Done], grown: str, line: str, code: int, says: str
) -> None:
    done = holdtrue(line.replace("NAME", grown))

    assert done.code == code, done.err
    assert says in done.err
