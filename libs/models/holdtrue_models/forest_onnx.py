"""From boosted trees to ONNX. Needs the extra `train`.

ONNX trees only compare a column with a number. What ours ask beyond that becomes columns of its own before the trees:
zeros that are missing values, and whether a category is in a set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from holdtrue_models.convert import OPSETS
from holdtrue_models.forest import ZERO
from holdtrue_models.forest_model import check_answer
from holdtrue_models.onnx_runtime import INPUT, output_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_stats.arrays import Bools, Float32s, Ints
    from numpy.typing import NDArray

    from holdtrue_models.forest import Forest, Link
    from holdtrue_models.signature import Signature

Node = Any  # messages of the onnx package

IR_VERSION = 10
_INSIDE, _OUTSIDE = 0.0, 1.0  # of a set; the former goes left
_BORDER = 0.5


def forest_to_onnx(forest: Forest, signature: Signature) -> bytes:
    """Return checked trees as an ONNX file that takes float32 rows. Raises MalformedModel if they do not fit."""
    check_answer(forest, signature)
    output = output_name(signature)
    graph = _Graph()
    answer = _answer(graph, graph.trees(forest, *_widened(graph, forest)), forest)
    if signature.task == "binary" and forest.outputs == 1:
        negative = graph.add("Sub", [graph.constant(np.ones(1, np.float32)), answer])
        answer = graph.add("Concat", [negative, answer], axis=1)
    graph.add("Identity", [answer], output)
    made = helper.make_graph(
        graph.nodes,
        "trees",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, forest.width])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, max(1, len(signature.classes))])],
        graph.constants,
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(made, opset_imports=opsets, producer_name="holdtrue", ir_version=IR_VERSION)
    cast("Any", checker).check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _widened(graph: _Graph, forest: Forest) -> tuple[str, Ints, Float32s]:
    """Return the rows with the columns that the trees need, and by which column and number each node divides."""
    parts, width = [INPUT], forest.width
    feature, threshold = forest.feature.copy(), forest.threshold.copy()
    if forest.zero_missing.any():
        parts.append(graph.zeros_missing())
        feature[forest.zero_missing] += width
        width += forest.width
    divides = forest.subset >= 0
    for column in np.unique(forest.feature[divides]):
        nodes = divides & (forest.feature == column)
        used, places = np.unique(forest.subset[nodes], return_inverse=True)
        parts.append(graph.outside(int(column), forest.subsets[used]))
        feature[nodes], threshold[nodes] = width + places, _BORDER
        width += len(used)
    return (graph.add("Concat", parts, axis=1) if len(parts) > 1 else INPUT), feature, threshold


def _answer(graph: _Graph, sums: str, forest: Forest) -> str:
    """Return what the link makes of the sums."""
    if forest.slope != 1:
        sums = graph.add("Mul", [sums, graph.constant(np.array([forest.slope], np.float32))])
    link: Link = forest.link
    if link == "identity":
        return sums
    if link == "softmax":
        return graph.add("Softmax", [sums], axis=1)
    if link == "signed square":
        return graph.add("Mul", [sums, graph.add("Abs", [sums])])
    return graph.add({"sigmoid": "Sigmoid", "exp": "Exp", "log1p exp": "Softplus"}[link], [sums])


class _Graph:
    """Nodes and constants; what adds something returns the name of its tensor."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: list[Node] = []

    def add(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Node) -> str:
        name = output or f"{operator} {len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        name = f"constant {len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def zeros_missing(self) -> str:
        """The rows with NaN for what counts as zero."""
        zero = self.add("LessOrEqual", [self.add("Abs", [INPUT]), self.constant(np.array([ZERO]))])
        return self.add("Where", [zero, self.constant(np.full(1, np.nan, np.float32)), INPUT])

    def outside(self, column: int, sets: Bools) -> str:
        """Whether the category in a column is outside of each of the sets [k, c]: [n, k], NaN where it is missing.

        The table has a row for what is below all categories, one for each, one for what is above, one for NaN.
        """
        count = sets.shape[1]
        rows = np.vstack([np.zeros_like(sets[:, :1].T), sets.T, np.zeros_like(sets[:, :1].T)])
        table = np.where(rows, _INSIDE, _OUTSIDE).astype(np.float32)
        table = np.vstack([table, np.full((1, len(sets)), np.nan, np.float32)])
        values = self.add("Gather", [INPUT, self.constant(np.array(column))], axis=1)
        low, high = (self.constant(np.array(limit, np.float32)) for limit in (-1, count))
        known = self.add("Clip", [values, low, high])
        missing = self.constant(np.array(count + 1, np.float32))
        whole = self.add(
            "Cast", [self.add("Where", [self.add("IsNaN", [values]), missing, known])], to=TensorProto.INT64
        )
        place = self.add("Add", [whole, self.constant(np.array(1))])
        return self.add("Gather", [self.constant(table), place], axis=0)

    def trees(self, forest: Forest, rows: str, feature: Ints, threshold: Float32s) -> str:
        """What the leaves of each row add up to."""
        branch = forest.branch
        leaf = ~branch
        sizes = np.diff([*forest.roots, len(branch)])
        tree = np.repeat(np.arange(len(sizes)), sizes)
        first = np.repeat(forest.roots, sizes)
        own = np.arange(len(branch)) - first

        def inner(values: Node) -> list[Any]:
            return cast("list[Any]", np.where(branch, values, 0).tolist())

        return self.add(
            "TreeEnsembleRegressor",
            [rows],
            domain="ai.onnx.ml",
            n_targets=forest.outputs,
            base_values=forest.base.tolist(),
            nodes_treeids=tree.tolist(),
            nodes_nodeids=own.tolist(),
            nodes_modes=["BRANCH_LEQ" if divides else "LEAF" for divides in branch],
            nodes_featureids=inner(feature),
            nodes_values=inner(threshold),
            nodes_truenodeids=inner(forest.left - first),
            nodes_falsenodeids=inner(forest.right - first),
            nodes_missing_value_tracks_true=inner(forest.missing_left),
            target_treeids=tree[leaf].tolist(),
            target_nodeids=own[leaf].tolist(),
            target_ids=forest.trees[tree[leaf]].tolist(),
            target_weights=forest.value[leaf].tolist(),
        )
