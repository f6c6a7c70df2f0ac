"""Checks of the trees in an ONNX file.

ONNX Runtime loads a tree by recursion: one of 20,000 levels ended the process (measured).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from holdtrue_models.errors import UnsafeModel
from holdtrue_models.tree_shape import check_shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdtrue_stats.arrays import Ints
    from numpy.typing import NDArray


Skeleton = Any  # a node of the skeleton of onnx_limits

OPERATORS = frozenset({"TreeEnsembleClassifier", "TreeEnsembleRegressor"})
MAX_ID = 1 << 31


def check_onnx_trees(node: Skeleton, depth: int) -> None:
    """Raise UnsafeModel unless every tree of the node has one root, no cycle, and at most `depth` levels."""
    if node.op_type not in OPERATORS:
        return
    attributes = {attribute.name: attribute for attribute in node.attribute}
    tree, own, true, false = (
        _numbers(attributes, f"nodes_{name}ids") for name in ("tree", "node", "truenode", "falsenode")
    )
    modes: list[bytes] = list(attributes["nodes_modes"].strings) if "nodes_modes" in attributes else []
    branch = np.array([mode != b"LEAF" for mode in modes], bool)
    if not len(tree) == len(own) == len(true) == len(false) == len(branch) > 0:
        raise UnsafeModel(f"the trees of the ONNX node {node.name!r} have attributes of different lengths")
    children = _children(tree, own, (true, false), branch)
    check_shape(children, branch, len(np.unique(tree)), depth)


def _numbers(attributes: Mapping[str, Skeleton], name: str) -> Ints:
    values = np.array(attributes[name].ints if name in attributes else [], np.int64)
    if len(values) and not 0 <= values.min() <= values.max() < MAX_ID:
        raise UnsafeModel(f"the ONNX trees have a number out of range in {name!r}")
    return values


def _children(tree: Ints, own: Ints, sides: tuple[Ints, Ints], branch: NDArray[np.bool_]) -> Ints:
    """Return the places [2, n] of the children of every node; those of leaves mean nothing."""
    keys = tree * MAX_ID + own
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    if (ordered[1:] == ordered[:-1]).any():
        raise UnsafeModel("the ONNX trees have two nodes with the same number")
    wanted = np.stack([tree * MAX_ID + side for side in sides])
    places = np.minimum(np.searchsorted(ordered, wanted), len(keys) - 1)
    if (ordered[places] != wanted)[:, branch].any():
        raise UnsafeModel("the ONNX trees have a node whose child does not exist")
    return cast("Ints", order[places])
