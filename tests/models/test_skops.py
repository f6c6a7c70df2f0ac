"""Safe loading of skops files: what is refused, why, and that honest files come back as they were."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import pickle
import random
import resource
import subprocess
import sys
import warnings
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skops.io
from holdtrue_models import MalformedModel, ModelError, UnsafeModel
from holdtrue_models.content import recognise, verified
from holdtrue_models.skops_limits import check_skops
from holdtrue_models.skops_runtime import dump_skops, load_skops
from holdtrue_models.trees import check_trees
from holdtrue_models.zip_limits import ZipLimits, check_zip
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from . import hostile
from .hostile import array_edit, attribute, nodes, rebuilt, tree_argument, tree_state, values_edit, with_loader, zipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Cancer

Untyped = Any  # scikit-learn carries no types, and hostile things have none


def loaded(data: bytes) -> Untyped:
    return load_skops(data, hashlib.sha256(data).hexdigest())


@pytest.fixture(scope="session")
def forest(cancer: Cancer) -> bytes:
    return dump_skops(RandomForestClassifier(3, max_depth=4, random_state=0).fit(cancer.x, cancer.y))


@pytest.fixture(scope="session")
def histograms(cancer: Cancer) -> bytes:
    model: Untyped = HistGradientBoostingClassifier(max_iter=2, max_depth=3, random_state=0)
    return dump_skops(model.fit(cancer.x, cancer.y))


@pytest.fixture(scope="session")
def categorical(cancer: Cancer) -> bytes:
    """Histogram gradient boosting whose first column has categories, and splits by them."""
    x = cancer.x[:, :2].copy()
    x[:, 0] = np.digitize(x[:, 0], [11, 13, 15, 18])
    model: Untyped = HistGradientBoostingClassifier(max_iter=3, random_state=0)
    return dump_skops(model.set_params(categorical_features=[0]).fit(x, cancer.y))


HONEST: dict[str, tuple[Untyped, int]] = {
    "tree": (DecisionTreeClassifier(max_depth=4, random_state=0), 1),
    "pipeline": (make_pipeline(StandardScaler(), RandomForestClassifier(4, max_depth=3, random_state=0)), 4),
    "best first": (ExtraTreesRegressor(3, max_leaf_nodes=9, random_state=0), 3),
    "some columns": (BaggingClassifier(max_features=0.4, n_estimators=4, random_state=0), 4),
    "boosted": (AdaBoostClassifier(n_estimators=3, random_state=0), 3),
    "gradient boosting": (GradientBoostingClassifier(n_estimators=3, random_state=0), 3),
    "histograms": (HistGradientBoostingClassifier(max_iter=3, random_state=0), 3),
    "isolation": (IsolationForest(n_estimators=3, max_features=7, random_state=0), 3),
    "nested": (
        VotingClassifier(
            [("a", RandomForestClassifier(2, random_state=0)), ("b", DecisionTreeClassifier(max_depth=2))]
        ),
        6,  # voting keeps its members in a list and by name
    ),
    "calibrated": (CalibratedClassifierCV(DecisionTreeClassifier(max_depth=2, random_state=0), cv=2), 2),
    "perceptron": (MLPClassifier((3,), max_iter=5, random_state=0), 0),
    "logistic": (LogisticRegression(max_iter=20), 0),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", HONEST)
def test_honest_models_come_back_and_all_their_trees_are_checked(cancer: Cancer, name: str) -> None:
    estimator, trees = HONEST[name]
    with warnings.catch_warnings(action="ignore"):
        fitted: Untyped = estimator.fit(cancer.x, cancer.y)
    again = loaded(dump_skops(fitted))
    np.testing.assert_array_equal(again.predict(cancer.x_later), fitted.predict(cancer.x_later))
    if name != "nested":
        assert check_trees(again) == trees
    else:
        assert 3 <= check_trees(again) <= trees


def test_dumping_leaves_the_estimator_as_it_was(cancer: Cancer) -> None:
    fitted: Untyped = MLPClassifier((3,), max_iter=2, random_state=np.random.RandomState(1))
    with warnings.catch_warnings(action="ignore"):
        fitted.fit(cancer.x, cancer.y)
    dump_skops(fitted)
    assert isinstance(fitted.random_state, np.random.RandomState)


BAD_TREES: dict[str, tuple[Callable[[Untyped, hostile.Members], object], str]] = {
    "child out of range": (array_edit("left_child", 0, 10**6), "child index"),
    "child out of range in the last tree": (array_edit("right_child", 0, 10**6, last=True), "child index"),
    "negative child": (array_edit("right_child", 0, -7), "child index"),
    "cycle to itself": (array_edit("left_child", 0, 0), "child index"),
    "cycle": (array_edit("left_child", 1, 0), "child index"),
    "one child": (array_edit("left_child", 0, -1), "one child"),
    "two parents": (array_edit("right_child", 0, 1), "two parents"),
    "feature out of range": (array_edit("feature", 0, 30), "feature"),
    "negative feature": (array_edit("feature", 0, -3), "feature"),
    "threshold": (array_edit("threshold", 0, np.nan), "not finite"),
    "value": (values_edit(np.inf), "not finite"),
    "other width": (tree_argument(0, "31"), "other features"),
    "other depth": (tree_state("max_depth", "1"), "deeper than it says"),
    "width of a member": (attribute("n_features_in_", "29"), "other features"),
}


@pytest.mark.parametrize("name", BAD_TREES)
def test_bad_trees_are_refused(forest: bytes, name: str) -> None:
    edit, words = BAD_TREES[name]
    with pytest.raises(UnsafeModel, match=words):
        loaded(rebuilt(forest, edit))


@pytest.mark.parametrize(
    "around", ["calibrated", "nested", "pipeline", "gradient boosting", "some columns", "isolation"]
)
def test_bad_trees_are_found_in_every_nest(cancer: Cancer, around: str) -> None:
    data = dump_skops(HONEST[around][0].fit(cancer.x, cancer.y))
    for name in ("child out of range", "feature out of range", "value"):
        edit, words = BAD_TREES[name]
        with pytest.raises(UnsafeModel, match=words):
            loaded(rebuilt(data, edit))


BAD_PREDICTORS: dict[str, tuple[Callable[[Untyped, hostile.Members], object], str]] = {
    "child out of range": (array_edit("left", 0, 10**6), "child index"),
    "cycle": (array_edit("right", 0, 0), "child index"),
    "feature out of range": (array_edit("feature_idx", 0, 30), "feature"),
    "value": (array_edit("value", 0, np.nan), "not finite"),
    "categories of a number": (array_edit("is_categorical", 0, 1), "categories"),
}


@pytest.mark.parametrize("name", BAD_PREDICTORS)
def test_bad_histogram_trees_are_refused(histograms: bytes, name: str) -> None:
    edit, words = BAD_PREDICTORS[name]
    with pytest.raises(UnsafeModel, match=words):
        loaded(rebuilt(histograms, edit))


def test_set_of_categories_out_of_range_is_refused(categorical: bytes) -> None:
    def edit(_: Untyped, members: hostile.Members) -> None:
        import io

        for name, data in members.items():
            array = np.load(io.BytesIO(data))
            if "bitset_idx" in (array.dtype.names or ()):
                array["bitset_idx"][:] = 77
                members[name] = hostile.saved(array)

    assert check_trees(loaded(categorical)) == 3
    with pytest.raises(UnsafeModel, match="set of categories"):
        loaded(rebuilt(categorical, edit))


def test_rounds_of_other_size_than_their_room_are_refused(cancer: Cancer) -> None:
    fitted: Untyped = GradientBoostingClassifier(n_estimators=2, random_state=0).fit(cancer.x, cancer.y)
    for change in ({"n_trees_per_iteration_": 3}, {"classes_": np.arange(3)}):
        tampered = loaded(dump_skops(fitted))
        vars(tampered).update(change)
        with pytest.raises(UnsafeModel, match="room"):
            check_trees(tampered)


def test_tree_that_no_estimator_owns_is_refused(forest: bytes) -> None:
    model = loaded(forest)
    model.spare = [model.estimators_[0].tree_]
    assert check_trees(model) == 3
    model.estimators_[0].tree_ = None
    with pytest.raises(UnsafeModel, match="outside of an estimator"):
        check_trees(model)


def replaced(loader: str, **fields: Untyped) -> Callable[[Untyped, hostile.Members], None]:
    return lambda schema, _: hostile.change(with_loader(schema, loader), **fields)


def huge_array(_: Untyped, members: hostile.Members) -> None:
    name = next(name for name in members if name.endswith(".npy"))
    members[name] = members[name].replace(b"'shape': (", b"'shape': (9", 1).replace(b" \n", b"\n", 1)


def objects_inside(_: Untyped, members: hostile.Members) -> None:
    name = next(name for name in members if name.endswith(".npy"))
    members[name] = hostile.saved(np.array([{}], object))


def nested(schema: Untyped, _: hostile.Members) -> None:
    node: Untyped = []
    for _level in range(120):
        node = [node]
    schema["padding"] = node


BAD_SCHEMAS: dict[str, tuple[Callable[[Untyped, hostile.Members], object], str]] = {
    "random state": (replaced("NdArrayNode", __loader__="RandomStateNode"), "random generator"),
    "generator": (replaced("NdArrayNode", __loader__="RandomGeneratorNode"), "random generator"),
    "bytes": (replaced("NdArrayNode", __loader__="BytesNode"), "'BytesNode'"),
    "method": (replaced("NdArrayNode", __loader__="MethodNode"), "'MethodNode'"),
    "sparse matrix": (replaced("NdArrayNode", __loader__="SparseMatrixNode"), "'SparseMatrixNode'"),
    "foreign module": (replaced("TypeNode", __module__="os", __class__="system"), "'os'"),
    "module that begins alike": (replaced("TypeNode", __module__="builtins_", __class__="x"), "'builtins_'"),
    "eval": (replaced("TypeNode", __module__="builtins", __class__="eval"), "builtins.eval"),
    "old protocol": (lambda schema, _: schema.update(protocol=1), "protocol 2"),
    "array too large": (huge_array, "do not fit"),
    "missing member": (replaced("NdArrayNode", file="nowhere.npy"), "not in it"),
    "array of objects": (objects_inside, "header of the array"),
    "no array": (lambda _, members: members.update(dict.fromkeys(members, b"x")), "no array"),
    "deep nesting": (nested, "deeper than 100"),
    "many parts": (lambda schema, _: schema.update(padding=[[]] * 600_000), "parts"),
}


@pytest.mark.parametrize("name", BAD_SCHEMAS)
def test_bad_schemas_are_refused(forest: bytes, name: str) -> None:
    edit, words = BAD_SCHEMAS[name]
    with pytest.raises(ModelError, match=words):
        loaded(rebuilt(forest, edit))


def test_nesting_that_json_itself_refuses() -> None:
    with pytest.raises(MalformedModel, match="not JSON"):
        check_skops(zipped({"schema.json": b"[" * 200_000}))
    with pytest.raises(UnsafeModel, match="no skops file"):
        check_skops(zipped({"data.pkl": b"x"}))


def with_other_header(data: bytes) -> bytes:
    """The local header of the first member says another name than the directory."""
    return data[:30] + b"#" + data[31:]


def flagged(flag: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:6] + bytes([flag]) + data[7:]


BAD_ARCHIVES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "duplicate": (lambda data: hostile.raw_archive(data, hostile.named("schema.json")), "two members"),
    "link": (lambda data: hostile.raw_archive(data, hostile.named("x", hostile.LINK)), "link"),
    "folder": (lambda data: hostile.raw_archive(data, hostile.named("x/")), "folder"),
    "absolute": (lambda data: hostile.raw_archive(data, hostile.named("/etc/passwd")), "plain relative"),
    "parent": (lambda data: hostile.raw_archive(data, hostile.named("a/../../b")), "plain relative"),
    "backslash": (lambda data: hostile.raw_archive(data, hostile.named("a\\b")), "plain relative"),
    "other local header": (with_other_header, "differ"),
    "encrypted": (flagged(1), "encrypted"),
    "patched": (flagged(32), "encrypted"),
    "before": (lambda data: b"PK\x03\x04" + data, "belong to no member"),
    "behind": (lambda data: data + b"x", "cut off"),
    "truncated": (lambda data: data[:-30], "cut off"),
    "short": (lambda data: data[:10], "too short"),
    "bzip2": (lambda _: zipped({"schema.json": b"{}"}, zipfile.ZIP_BZIP2), "packed by"),
    "padded": (lambda _: zipped({"schema.json": b" " * (1 << 20)}, zipfile.ZIP_DEFLATED), "times as much"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_bad_archives_are_refused_unopened(forest: bytes, name: str) -> None:
    make, words = BAD_ARCHIVES[name]
    with pytest.raises(ModelError, match=words):
        check_zip(make(forest))


def test_limits_of_archives_hold(forest: bytes) -> None:
    assert "schema.json" in {member.filename for member in check_zip(forest)}
    with pytest.raises(UnsafeModel, match="members"):
        check_zip(forest, ZipLimits(members=2))
    with pytest.raises(UnsafeModel, match="unpacks to more"):
        check_zip(forest, ZipLimits(bytes=1_000))


def test_padded_file_costs_the_reader_nothing(tmp_path: Path) -> None:
    """In a fresh process: a file of 200 KB whose schema would take half a gigabyte once it is read."""
    schema = json.dumps({"protocol": 2, "padding": [[]] * 3_500_000}).encode()
    path = tmp_path / "padded.skops"
    fill = random.Random(1).randbytes(190_000)  # noqa: S311
    path.write_bytes(zipped({"schema.json": schema, "fill.npy": fill}, zipfile.ZIP_DEFLATED))
    program = f"""
import pathlib, resource
from holdtrue_models import UnsafeModel
from holdtrue_models.zip_limits import check_zip
data = pathlib.Path({str(path)!r}).read_bytes()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    check_zip(data)
except UnsafeModel:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 16 << 10  # KiB


class Evil:
    """A pickle of it would change the limit of open files, which is seen, and harms nobody."""

    def __reduce__(self) -> tuple[Untyped, ...]:
        return resource.setrlimit, (resource.RLIMIT_CORE, (0, 0))


FOREIGN: dict[str, bytes] = {
    **{f"pickle {protocol}": pickle.dumps(Evil(), protocol) for protocol in range(6)},
    "joblib zlib": zlib.compress(pickle.dumps(Evil())),
    "joblib gzip": gzip.compress(pickle.dumps(Evil())),
    "joblib bzip2": bz2.compress(pickle.dumps(Evil())),
    "joblib xz": lzma.compress(pickle.dumps(Evil())),
    "joblib lz4": b"\x04\x22\x4d\x18" + b"x" * 20,
    "HDF5": b"\x89HDF\r\n\x1a\n" + b"\0" * 50,
    "PMML": b'<?xml version="1.0"?><PMML/>',
    "XGBoost JSON": b'{"learner":{}}',
    "numpy": hostile.saved(np.zeros(3)),
    "nothing": b"",
    "text": b"model",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats_are_refused_by_content(name: str) -> None:
    data = FOREIGN[name]
    with pytest.raises(MalformedModel, match="give the model as ONNX, skops"):
        recognise(data)
    with pytest.raises(MalformedModel):
        loaded(data)


def test_bytes_that_are_loaded_are_the_ones_that_were_named(forest: bytes) -> None:
    with pytest.raises(UnsafeModel, match="sha256"):
        load_skops(forest, "0" * 64)
    with pytest.raises(MalformedModel, match="its content is skops"):
        verified(forest, hashlib.sha256(forest).hexdigest(), "onnx")


def test_file_of_another_scikit_learn_is_refused(forest: bytes) -> None:
    with pytest.raises(MalformedModel, match="InconsistentVersionWarning"):
        loaded(rebuilt(forest, attribute("_sklearn_version", '"0.24.2"')))


def test_500_mutated_files_are_refused_or_sound(cancer: Cancer) -> None:
    """Whatever the flipped bytes do, the process lives: the trees that predict are sound."""
    tree: Untyped = DecisionTreeClassifier(max_depth=2).fit(cancer.x, cancer.y)
    whole = dump_skops(tree)
    dice = random.Random(3)  # noqa: S311
    refused = 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 5)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            loaded(bytes(data))
        except ModelError:
            refused += 1
    assert refused > 400


def test_loading_needs_the_types_that_skops_distrusts(forest: bytes) -> None:
    """Should skops trust trees one day, somebody has to look at why."""
    assert skops.io.get_untrusted_types(data=forest) == ["sklearn.tree._tree.Tree"]
    assert any(node.get("__loader__") == "TreeNode" for node in nodes(json.loads(_schema(forest))))


def _schema(data: bytes) -> bytes:
    import io

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read("schema.json")
