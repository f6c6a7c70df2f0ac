"""`holdtrue models inspect | convert | verify` on files of every kind."""

from __future__ import annotations

import csv
import json
import pickle
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import pytest
import skops.io
import xgboost
from holdtrue.cli.app import run
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Untyped = Any
random = np.random.default_rng(2)
X = random.normal(size=(300, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def _xgboost(path: Path) -> None:
    model: Untyped = xgboost.XGBClassifier(n_estimators=10, n_jobs=1)
    model.fit(X, Y).save_model(path / "model.ubj")


def _lightgbm(path: Path) -> None:
    model: Untyped = lightgbm.LGBMRegressor(n_estimators=10, n_jobs=1, verbose=-1)
    model.fit(X, X[:, 0]).booster_.save_model(path / "model.txt")


def _skops(path: Path) -> None:
    skops.io.dump(RandomForestClassifier(10, random_state=0).fit(X, Y > 0), path / "model.skops")


def _linear(path: Path) -> None:
    skops.io.dump(Ridge().fit(X, X[:, 0]), path / "ridge.skops")


def _dummy(path: Path) -> None:
    skops.io.dump(DummyClassifier().fit(X, Y > 0), path / "dummy.skops")


MADE: dict[str, Callable[[Path], None]] = {
    "model.ubj": _xgboost,
    "model.txt": _lightgbm,
    "model.skops": _skops,
    "ridge.skops": _linear,
}
KINDS = {"model.ubj": "ubj", "model.txt": "lightgbm", "model.skops": "skops", "ridge.skops": "skops"}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow("abc")
        table.writerows(X.tolist())
    return path


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert run(["models", *map(str, arguments), "-o", "json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    try:
        code: object = run(["models", *map(str, arguments)])
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err


@pytest.mark.parametrize("name", MADE)
def test_what_was_saved_is_told_converted_and_verified(
    tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    MADE[name](tmp_path)
    told = answer(capsys, "inspect", tmp_path / name)
    assert (told["kind"], told["bytes"]) == (KINDS[name], (tmp_path / name).stat().st_size)
    folder = tmp_path / "converted"
    extra = ["--rows", rows] if name.endswith("skops") else []
    made = answer(capsys, "convert", tmp_path / name, folder, *extra)
    assert made["rows_compared"] >= 1000
    assert made["largest_difference"] <= 2e-5
    onnx = answer(capsys, "inspect", folder / "model.onnx")
    assert (onnx["kind"], onnx["takes"]) == ("onnx", {"X": ["n", 3]})
    manifest = answer(capsys, "inspect", folder / "manifest.json")
    assert (manifest["kind"], manifest["files"]["onnx"]) == ("manifest", onnx["sha256"])
    assert answer(capsys, "verify", folder)["check_rows"] == "reproduced"


def test_answers_that_were_changed_are_not_reproduced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _xgboost(tmp_path)
    answer(capsys, "convert", tmp_path / "model.ubj", tmp_path / "out")
    model = tmp_path / "out" / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    code, told = refused(capsys, "verify", tmp_path / "out")
    assert code == 6
    assert "sha256" in told


def test_what_cannot_be_loaded_or_converted_says_why(
    tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _dummy(tmp_path)
    _skops(tmp_path)
    (tmp_path / "model.onnx").write_bytes(pickle.dumps(X))
    skops.io.dump(StandardScaler().fit(X), tmp_path / "scaler.skops")
    narrow = tmp_path / "narrow.csv"
    narrow.write_text("a,b\n1,2\n")
    words = tmp_path / "words.csv"
    words.write_text("a,b,c\n1,2,x\n")
    for arguments, expected, text in (
        (["inspect", tmp_path / "model.onnx"], 6, "a pickle, which runs code"),
        (["inspect", tmp_path / "none.onnx"], 2, "No such file"),
        (["inspect", tmp_path], 2, "is no file with an end"),
        (["inspect", "/dev/zero"], 2, "is no file with an end"),
        (
            ["convert", tmp_path / "model.skops", words / "out", "--rows", rows],
            2,
            "name a new folder where you may write",
        ),
        (
            ["convert", tmp_path / "model.skops", tmp_path / "out", "--rows", narrow],
            6,
            "takes 3 columns, the rows have 2",
        ),
        (
            ["convert", tmp_path / "scaler.skops", tmp_path / "out", "--rows", rows],
            6,
            "StandardScaler predicts nothing",
        ),
        (["convert", tmp_path / "dummy.skops", tmp_path / "out", "--rows", rows], 6, "cannot be served as ONNX"),
        (["convert", tmp_path / "model.skops", tmp_path / "out"], 6, "give rows to compare"),
        (["convert", tmp_path / "model.skops", tmp_path / "out", "--rows", words], 2, "expected numbers only"),
        (["convert", tmp_path / "model.skops", tmp_path], 2, "exists; name a new folder"),
        (["verify", tmp_path / "none"], 2, "No such file"),
    ):
        code, told = refused(capsys, *arguments)
        assert code == expected, told
        assert text in told
    assert not (tmp_path / "out").exists()
