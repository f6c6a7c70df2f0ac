"""From boosted trees to ONNX. Needs the extra `train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from onnx import TensorProto, checker, helper

from holdtrue_models.convert import OPSETS
from holdtrue_models.errors import UnsupportedModel
from holdtrue_models.forest_model import check_answer
from holdtrue_models.onnx_runtime import INPUT, output_name

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Bools

    from holdtrue_models.forest import Forest, Link
    from holdtrue_models.signature import Signature

Node = Any  # messages of the onnx package
IR_VERSION = 10
SUMS = "sums"


def forest_to_onnx(forest: Forest, signature: Signature) -> bytes:
    """Return checked trees as an ONNX file that takes float32 rows. Raises UnsupportedModel if that cannot be done."""
    check_answer(forest, signature)
    if (forest.subset >= 0).any():
        raise UnsupportedModel("trees that divide by sets of categories cannot be converted to ONNX")
    if (forest.zero_missing & (forest.missing_left != (forest.threshold >= 0)) & forest.branch).any():
        raise UnsupportedModel("trees that take zeros for missing values cannot be converted to ONNX")
    output = output_name(signature)
    graph = helper.make_graph(
        _nodes(forest, signature, output),
        "trees",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, forest.width])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, max(1, len(signature.classes))])],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="holdtrue", ir_version=IR_VERSION)
    cast("Any", checker).check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _nodes(forest: Forest, signature: Signature, output: str) -> list[Node]:
    graph = _Graph(_ensemble(forest), SUMS)
    if forest.slope != 1:
        graph.then("Mul", graph.constant(forest.slope))
    graph.link(forest.link)
    if signature.task == "binary" and forest.outputs == 1:
        graph.both_classes()
    return [*graph.nodes, helper.make_node("Identity", [graph.last], [output])]


def _ensemble(forest: Forest) -> Node:
    branch = forest.branch
    sizes = np.diff([*forest.roots, len(branch)])
    tree = np.repeat(np.arange(len(sizes)), sizes)
    own = np.arange(len(branch)) - np.repeat(forest.roots, sizes)
    first = np.repeat(forest.roots, sizes)
    leaf = ~branch

    def inner(values: Node) -> list[Any]:
        return cast("list[Any]", np.where(branch, values, 0).tolist())

    return helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        [SUMS],
        domain="ai.onnx.ml",
        n_targets=forest.outputs,
        base_values=forest.base.tolist(),
        nodes_treeids=tree.tolist(),
        nodes_nodeids=own.tolist(),
        nodes_modes=_modes(branch),
        nodes_featureids=inner(forest.feature),
        nodes_values=inner(forest.threshold),
        nodes_truenodeids=inner(forest.left - first),
        nodes_falsenodeids=inner(forest.right - first),
        nodes_missing_value_tracks_true=inner(forest.missing_left),
        target_treeids=tree[leaf].tolist(),
        target_nodeids=own[leaf].tolist(),
        target_ids=forest.trees[tree[leaf]].tolist(),
        target_weights=forest.value[leaf].tolist(),
    )


def _modes(branch: Bools) -> list[str]:
    return ["BRANCH_LEQ" if divides else "LEAF" for divides in branch]


class _Graph:
    """Nodes one behind the other; `last` is the tensor that the last one gives."""

    def __init__(self, first: Node, last: str) -> None:
        self.nodes, self.last = [first], last

    def then(self, operator: str, *others: str, **attributes: Node) -> None:
        following = f"{operator.lower()} {len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self.last, *others], [following], **attributes))
        self.last = following

    def constant(self, value: float) -> str:
        name = f"constant {len(self.nodes)}"
        tensor = helper.make_tensor(name, TensorProto.FLOAT, [1], [value])
        self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def link(self, link: Link) -> None:
        """Make answers of sums."""
        if link == "signed square":
            self.nodes.append(helper.make_node("Abs", [self.last], ["size"]))
            self.then("Mul", "size")
        elif link == "softmax":
            self.then("Softmax", axis=1)
        elif link != "identity":
            self.then({"sigmoid": "Sigmoid", "exp": "Exp", "log1p exp": "Softplus"}[link])

    def both_classes(self) -> None:
        """Put the probability of the negative class before that of the positive one."""
        self.nodes.append(helper.make_node("Sub", [self.constant(1.0), self.last], ["negative"]))
        self.nodes.append(helper.make_node("Concat", ["negative", self.last], ["both"], axis=1))
        self.last = "both"
