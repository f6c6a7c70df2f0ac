"""Whether nodes are trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from holdtrue_models.errors import UnsafeModel

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Ints
    from numpy.typing import NDArray


def check_shape(children: Ints, branch: NDArray[np.bool_], trees: int, depth: int) -> int:
    """Return how many levels of branches there are. Raises UnsafeModel unless the nodes are so many trees.

    `children` [2, n] are places among all nodes, within range; those of nodes that do not `branch` mean nothing. Each
    tree must have one root, no cycle, and at most `depth` levels.
    """
    parents = np.bincount(children[:, branch].ravel(), minlength=len(branch))
    level = np.flatnonzero(parents == 0)
    if len(level) != trees or (parents > 1).any():
        raise UnsafeModel("the trees have a node with two parents, or one of them has two roots or none")
    visited, levels = len(level), 0
    while len(level := children[:, level[branch[level]]].ravel()):
        visited += len(level)
        levels += 1
        if levels > depth:
            raise UnsafeModel(f"a tree has more than {depth} levels")
    if visited != len(branch):
        raise UnsafeModel("the trees have a cycle")
    return levels
