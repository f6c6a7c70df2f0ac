"""Safe loading: what is refused, why, and that what is allowed answers like scikit-learn."""

from __future__ import annotations

import pickle
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from holdtrue_models import (
    MalformedModel,
    ModelError,
    OnnxLimits,
    ParityError,
    UnsafeModel,
    UnsupportedModel,
    WrongInput,
    check_onnx,
    load_onnx,
)
from holdtrue_models.manifest import CheckRows, File, Manifest, Matrix
from holdtrue_models.signature import Column, Signature
from msgspec.structs import replace
from onnx import helper

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_models.package import Package

    from .conftest import Cancer

Untyped = Any  # messages of the onnx package, and what is wrong on purpose


@pytest.fixture
def served(package: Package) -> bytes:
    return package.files["onnx"]


def edited(data: bytes, edit: Callable[[Untyped], object]) -> bytes:
    model = onnx.ModelProto.FromString(data)
    edit(model)
    return model.SerializeToString()


def node(op: str, **attributes: Untyped) -> onnx.NodeProto:
    return helper.make_node(op, ["X"], ["Y"], name="bad", **attributes)


def outside(model: Untyped) -> None:
    tensor = model.graph.initializer.add(name="far", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="/etc/passwd")


BRANCH = helper.make_graph([helper.make_node("Identity", ["X"], ["Z"])], "branch", [], [])
HOSTILE: dict[str, tuple[Callable[[Untyped], object], str]] = {
    "external data": (outside, "outside the file"),
    "external data in an attribute": (
        lambda m: m.graph.node[0].attribute.add(name="t").t.external_data.add(key="location", value="x"),
        "outside the file",
    ),
    "loop": (lambda m: m.graph.node.append(node("Loop", body=BRANCH)), "'Loop'"),
    "subgraph in an allowed operator": (lambda m: m.graph.node.append(node("Identity", body=BRANCH)), "subgraph"),
    "expand": (lambda m: m.graph.node.append(node("Expand")), "'Expand'"),
    "range": (lambda m: m.graph.node.append(node("Range")), "'Range'"),
    "tile": (lambda m: m.graph.node.append(node("Tile")), "'Tile'"),
    "constant of shape": (lambda m: m.graph.node.append(node("ConstantOfShape")), "'ConstantOfShape'"),
    "custom operator": (lambda m: m.graph.node.append(node("Add", domain="com.evil")), "com.evil"),
    "custom domain": (lambda m: m.opset_import.add(domain="com.evil", version=1), "com.evil"),
    "function": (lambda m: m.functions.add(name="f"), "functions"),
    "training": (lambda m: m.training_info.add(), "training"),
    "huge initializer": (
        lambda m: m.graph.initializer.add(name="huge", data_type=1, dims=[1 << 31, 1 << 31]),
        "elements",
    ),
    "negative initializer": (lambda m: m.graph.initializer.add(name="n", data_type=1, dims=[-1]), "elements"),
    "huge shape": (
        lambda m: m.graph.value_info.append(helper.make_tensor_value_info("v", 1, [1 << 40])),
        "elements",
    ),
    "sparse initializer": (lambda m: m.graph.sparse_initializer.add(), "sparse"),
    "tensors that are huge together": (
        lambda m: [m.graph.initializer.add(name=f"t{i}", data_type=1, dims=[60_000_000]) for i in range(2)],
        "together",
    ),
    "trees of other operators": (lambda m: m.graph.node.append(node("TreeEnsemble")), "'TreeEnsemble'"),
    "no nodes": (lambda m: m.graph.ClearField("node"), "0 nodes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_models_are_refused(served: bytes, name: str) -> None:
    edit, words = HOSTILE[name]
    with pytest.raises(UnsafeModel, match=words):
        check_onnx(edited(served, edit))


def trees(**changes: Callable[[list[Untyped]], list[Untyped]]) -> Callable[[Untyped], object]:
    """Change attributes of the tree node: each a function of its list of numbers or texts."""

    def edit(model: Untyped) -> None:
        ensemble = next(n for n in model.graph.node if n.op_type.startswith("TreeEnsemble"))
        for attribute in ensemble.attribute:
            values = attribute.strings if attribute.name == "nodes_modes" else attribute.ints
            change = changes.get(attribute.name.removeprefix("nodes_"))
            if change is not None:
                changed = change(list(values))
                del values[:]
                values.extend(changed)

    return edit


def put(place: int, value: Untyped) -> Callable[[list[Untyped]], list[Untyped]]:
    return lambda values: [*values[:place], value, *values[place + 1 :]]


def chain(levels: int) -> Callable[[Untyped], object]:
    """One tree that is a list: each node has a leaf on one side."""
    ids = list(range(2 * levels + 1))
    return trees(
        treeids=lambda _: [0] * len(ids),
        nodeids=lambda _: ids,
        truenodeids=lambda _: [*range(levels, 2 * levels), *[0] * (levels + 1)],
        falsenodeids=lambda _: [*range(1, levels), 2 * levels, *[0] * (levels + 1)],
        modes=lambda _: [b"BRANCH_LEQ"] * levels + [b"LEAF"] * (levels + 1),
    )


BAD_TREES: dict[str, tuple[Callable[[Untyped], object], str]] = {
    "deep": (chain(20_000), "more than 1000 levels"),
    "cycle to itself": (trees(truenodeids=put(0, 0)), "cycle|two parents"),
    "cycle": (trees(truenodeids=put(1, 0)), "cycle|two parents"),
    "missing child": (trees(falsenodeids=put(0, 99_999)), "does not exist"),
    "two parents": (trees(falsenodeids=lambda ids: [ids[0], ids[0], *ids[2:]]), "two parents"),
    "same number twice": (trees(nodeids=put(1, 0)), "same number"),
    "negative number": (trees(truenodeids=put(0, -1)), "out of range"),
    "shorter": (trees(modes=lambda modes: modes[1:]), "different lengths"),
}


@pytest.mark.parametrize("name", BAD_TREES)
def test_bad_trees_are_refused(served: bytes, name: str) -> None:
    edit, words = BAD_TREES[name]
    with pytest.raises(UnsafeModel, match=words):
        check_onnx(edited(served, edit))


def test_deep_trees_within_the_limit_are_accepted(served: bytes) -> None:
    check_onnx(edited(served, chain(900)))


@pytest.mark.parametrize("feature", [30, 1 << 30])
def test_runtime_refuses_a_feature_out_of_range(served: bytes, package: Package, feature: int) -> None:
    """The runtime looks at this itself; should it stop to, this file has to."""
    data = edited(served, trees(featureids=put(0, feature)))
    with pytest.raises(MalformedModel, match="ONNX Runtime cannot"):
        load_onnx(data, with_file(package, data))


def test_too_many_nodes_and_bytes_are_refused(served: bytes) -> None:
    with pytest.raises(UnsafeModel, match="nodes"):
        check_onnx(served, OnnxLimits(nodes=1))
    with pytest.raises(UnsafeModel, match="bytes"):
        check_onnx(served, OnnxLimits(file_bytes=10))


@pytest.mark.parametrize("data", [b"", pickle.dumps(object()), b"PK\x03\x04", b"\x08\xff\xff\xff", b"<PMML/>"])
def test_other_formats_are_refused_by_content(data: bytes) -> None:
    with pytest.raises(MalformedModel):
        check_onnx(data)


def test_cut_off_files_are_refused(served: bytes, package: Package) -> None:
    for size in range(0, len(served), 997):
        with pytest.raises(ModelError):
            load_onnx(served[:size], with_file(package, served[:size]))


def with_file(package: Package, data: bytes) -> Manifest:
    """A manifest that names these bytes, so that nothing but their content can be the reason to refuse them."""
    import hashlib

    file = File(hashlib.sha256(data).hexdigest(), len(data))
    return replace(package.model.manifest, files={"onnx": file})


def test_500_mutated_files_never_crash_and_never_answer_wrongly(
    served: bytes, package: Package, cancer: Cancer
) -> None:
    dice = random.Random(7)  # noqa: S311
    right = package.model.run(cancer.x_later[:16])
    refused = 0
    for _ in range(500):
        data = bytearray(served)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            model = load_onnx(bytes(data), with_file(package, bytes(data)))
        except ModelError:
            refused += 1
            continue
        np.testing.assert_allclose(model.run(cancer.x_later[:16]), right, atol=1e-5)
    assert refused > 50


def test_wrong_digest_is_refused(served: bytes, package: Package) -> None:
    manifest = replace(package.model.manifest, files={"onnx": File("0" * 64, len(served))})
    with pytest.raises(UnsafeModel, match="sha256"):
        load_onnx(served, manifest)


def test_other_answers_than_recorded_are_refused(served: bytes, package: Package) -> None:
    manifest = package.model.manifest
    expected = manifest.check_rows.expected.array() + np.float32(2e-5)
    with pytest.raises(ParityError, match="check rows"):
        load_onnx(served, replace(manifest, check_rows=CheckRows(manifest.check_rows.inputs, Matrix.of(expected))))


def test_model_without_check_rows_is_refused(served: bytes, package: Package) -> None:
    empty = CheckRows(Matrix(0, 30, b""), Matrix(0, 2, b""))
    with pytest.raises(MalformedModel, match="no check rows"):
        load_onnx(served, replace(package.model.manifest, check_rows=empty))


def test_tensors_that_do_not_fit_the_signature_are_refused(served: bytes, package: Package) -> None:
    manifest = package.model.manifest
    narrow = Signature.binary(manifest.signature.columns[:3], (0, 1), 0.5)
    rows = CheckRows(Matrix.of(np.zeros((1, 3), np.float32)), manifest.check_rows.expected)
    with pytest.raises(MalformedModel, match=r"must take 'X' float \[n, 3\]"):
        load_onnx(served, replace(manifest, signature=narrow, check_rows=rows))


def test_text_columns_without_categories_cannot_be_served(served: bytes, package: Package) -> None:
    manifest = package.model.manifest
    columns = (Column(name="country", dtype="string"), *manifest.signature.columns[1:])
    with pytest.raises(UnsupportedModel, match="country"):
        load_onnx(served, replace(manifest, signature=Signature.binary(columns, (0, 1), 0.5)))


@pytest.mark.parametrize(
    "rows",
    [np.zeros((1, 29), np.float32), np.zeros((1, 30)), np.zeros(30, np.float32), np.zeros((0, 30), np.float32)],
    ids=["narrow", "double", "one axis", "no rows"],
)
def test_wrong_rows_say_what_is_expected(package: Package, rows: Untyped) -> None:
    with pytest.raises(WrongInput, match=r"\[n, 30\]"):
        package.model.run(rows)


def test_answers_do_not_depend_on_the_batch(package: Package, cancer: Cancer) -> None:
    together = package.model.run(cancer.x_later)
    alone = np.vstack([package.model.run(row[None]) for row in cancer.x_later])
    np.testing.assert_allclose(alone, together, atol=1e-6)
