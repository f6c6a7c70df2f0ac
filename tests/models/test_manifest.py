from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from holdtrue_models import Column, MalformedModel, Manifest, Matrix, Signature
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from holdtrue_models.package import Package

names = st.lists(st.text(max_size=8), min_size=1, max_size=5, unique=True)


@pytest.fixture(scope="module")
def manifest(package: Package) -> Manifest:
    return package.manifest(
        score_map="identity", importances={"column 0": 1.0}, pins={"numpy": "2"}, reference_profile="ab" * 32
    )


@given(names, st.floats(0, 1))
def test_signature_survives_its_json(columns: list[str], threshold: float) -> None:
    signature = Signature.binary(tuple(Column(name=name) for name in columns), ("no", "yes"), threshold)
    assert Signature.from_json(signature.to_json()) == signature
    assert json.loads(signature.to_json())["outputs"][0] == {"name": "label", "datatype": "BYTES", "shape": [-1]}


def test_numeric_says_whether_a_matrix_can_carry_the_columns() -> None:
    number, text = Column(name="a", dtype="int64"), Column(name="b", dtype="string", categories=("x", "y"))
    assert Signature.binary((number,), (0, 1), 0.5).numeric
    assert not Signature.binary((number, text), (0, 1), 0.5).numeric


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"columns": []}, "1 to 10000 columns"),
        ({"columns": [{"name": "a"}, {"name": "a"}]}, "'a' is in the signature twice"),
        ({"classes": [0]}, "two classes"),
        ({"threshold": 1.5}, "threshold from 0 to 1"),
        ({"threshold": None}, "threshold"),
        ({"positive_class": 7}, "positive 7"),
        ({"task": "ranking"}, "task"),
        ({"task": "multiclass", "classes": [1, 2, 1]}, "multiclass signature cannot have the classes"),
        ({"task": "regression"}, "regression signature cannot have the classes"),
        ({"extra": 1}, "unknown field"),
    ],
)
def test_signature_that_contradicts_itself_is_refused(change: dict[str, Any], words: str) -> None:
    document = json.loads(Signature.binary((Column(name="a"),), (0, 1), 0.5).to_json()) | change
    with pytest.raises(MalformedModel, match=words):
        Signature.from_json(json.dumps(document))


def test_manifest_survives_its_bytes_and_keeps_its_digest(manifest: Manifest) -> None:
    again = Manifest.from_bytes(manifest.to_bytes())
    assert again == manifest
    assert again.to_bytes() == manifest.to_bytes()
    assert again.digest == manifest.digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "has format 2"),
        ({"kind": "skops", "files": {}}, "serves 'skops'"),
        ({"kind": "pickle"}, "kind"),
        ({"check_rows": {"inputs": {"rows": 1, "columns": 1, "data": ""}, "expected": {}}}, "has 4 bytes"),
        ({"pins": None}, "pins"),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(manifest: Manifest, change: dict[str, Any], words: str) -> None:
    document = json.loads(manifest.to_bytes()) | change
    with pytest.raises(MalformedModel, match=words):
        Manifest.from_bytes(msgspec.json.encode(document))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with pytest.raises(MalformedModel):
        Manifest.from_bytes(data)


def test_deep_nesting_and_size_are_refused() -> None:
    with pytest.raises(MalformedModel):
        Manifest.from_bytes(b'{"pins":' * 100_000)
    with pytest.raises(MalformedModel, match="at most"):
        Manifest.from_bytes(b" " * ((16 << 20) + 1))


def test_matrix_keeps_nan_and_shape() -> None:
    values = np.array([[1.5, np.nan], [np.inf, -0.0]], np.float32)
    np.testing.assert_array_equal(Matrix.of(values).array(), values)
