"""Boosted trees as plain arrays: what the files of XGBoost and LightGBM say, checked, and answered without either.

Neither library sees a byte of a file: what is read from it is held here, nodes of all trees in one array each, so that
a wrong index is an error of ours and not a crash of theirs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from holdtrue_models.errors import UnsafeModel
from holdtrue_models.signature import MAX_COLUMNS
from holdtrue_models.tree_shape import check_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_stats.arrays import Bools, Float32s, Floats, Ints
    from numpy.typing import NDArray


Link = Literal["identity", "sigmoid", "softmax", "exp", "signed square", "log1p exp"]
"""From sums of leaves to answers."""

DEPTH = 1_000
"""Levels that a tree may have; so many are what `onnx_limits` lets pass, too."""
TREES = 100_000
CELLS = 64 << 20
"""Of all sets of categories together: sets times categories."""
ZERO = np.float32(1e-35)
"""What LightGBM takes for zero where zeros are missing values."""
_STEPS = 1 << 20  # places in trees that are followed at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Trees over `width` columns, whose leaves add up to `outputs` sums.

    `trees` [t]: the output that each tree adds to; `roots` [t]: the place of its root. Of every node [n]: `left` and
    `right`, the places of its children, -1 in leaves; `feature`, by which it divides; `threshold`, up to which, itself
    included, a value goes left; `missing_left`, where a missing value goes; `zero_missing`, whether zeros are missing;
    `subset`, -1 or the set of categories that go left instead; `value`, what a leaf adds; `gain` of the division.
    `subsets` [k, c] says which categories are in which set. `base` [outputs] is what is added to the sums,
    `slope` what they are multiplied by before the link.
    """

    width: int
    link: Link
    slope: float = 1.0
    base: Floats
    trees: Ints
    roots: Ints
    left: Ints
    right: Ints
    feature: Ints
    threshold: Float32s
    missing_left: Bools
    zero_missing: Bools
    subset: Ints
    subsets: Bools
    value: Floats
    gain: Floats

    @property
    def outputs(self) -> int:
        """How many sums there are."""
        return len(self.base)

    @property
    def branch(self) -> Bools:
        """Which nodes are no leaves."""
        return self.left >= 0

    @property
    def digest(self) -> str:
        """The sha256 of all that its answers depend on, hexadecimal; it survives a refit that gives the same trees."""
        state = hashlib.sha256(f"{self.width} {self.link} {self.slope!r}".encode())
        for field in fields(self):
            value: object = getattr(self, field.name)
            if isinstance(value, np.ndarray) and field.name != "gain":
                array = cast("NDArray[Any]", value)
                state.update(f"{field.name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
        return state.hexdigest()

    @property
    def gains(self) -> Floats:
        """The gain [width] of all divisions by each column together."""
        branch = self.branch
        return np.bincount(self.feature[branch], np.maximum(self.gain[branch], 0), self.width).astype(np.float64)


def check_forest(forest: Forest) -> int:
    """Return how many levels of branches there are. Raises UnsafeModel unless all indices lead where they should.

    Call it before anything else is done with a forest.
    """
    count = len(forest.left)
    branch = forest.branch
    if forest.width > MAX_COLUMNS:
        raise UnsafeModel(f"the model takes {forest.width} columns; at most {MAX_COLUMNS} are loaded")
    if not count or not len(forest.trees) or forest.outputs < 1 or not np.isfinite(forest.base).all():
        raise UnsafeModel("the model has no trees, or begins from something that is not finite")
    children = np.stack([forest.left, forest.right])
    if not np.array_equal(branch, forest.right >= 0) or (children >= count).any() or (children < -1).any():
        raise UnsafeModel("a tree has a child index out of range, or a node with one child")
    levels = check_shape(children, branch, len(forest.trees), DEPTH)
    if not _within(forest.feature[branch], forest.width):
        raise UnsafeModel("a tree asks for a feature that the model does not take")
    if not _within(forest.trees, forest.outputs) or len(np.unique(forest.trees)) != forest.outputs:
        raise UnsafeModel("a tree adds to an output that the model does not have, or an output has no tree")
    if (forest.subset < -1).any() or (forest.subset >= len(forest.subsets)).any():
        raise UnsafeModel("a tree has a set of categories out of range")
    if not np.isfinite(forest.value[~branch]).all() or np.isnan(forest.threshold[branch]).any():
        raise UnsafeModel("a tree has a value that is not finite")
    return levels


def matrix_of(sets: Sequence[Ints]) -> Bools:
    """Return which categories are in which set [k, c]. Raises UnsafeModel if those are too many."""
    width = 1 + max((int(members.max()) for members in sets if len(members)), default=0)
    if len(sets) * width > CELLS:
        raise UnsafeModel("the model has more sets of categories than are loaded")
    matrix = np.zeros((len(sets), width), bool)
    for row, members in zip(matrix, sets, strict=True):
        row[members] = True
    return matrix


def _within(places: Ints, size: int) -> bool:
    return bool(((places >= 0) & (places < size)).all())


class Runner:
    """Follows rows through the trees of a checked forest."""

    def __init__(self, forest: Forest, levels: int) -> None:
        """Let leaves lead to themselves, so that all rows can take the same number of steps."""
        here = np.arange(len(forest.left))
        self._forest = forest
        self._levels = levels
        self._right = np.where(forest.branch, forest.right, here)
        self._left = np.where(forest.branch, forest.left, here)
        self._feature = np.where(forest.branch, forest.feature, 0)
        self._zeros = bool(forest.zero_missing.any())
        self._sets = bool((forest.subset >= 0).any())
        self._order = np.argsort(forest.trees, kind="stable")
        self._begins = np.searchsorted(forest.trees[self._order], np.arange(forest.outputs))

    def sums(self, x: Float32s) -> Floats:
        """Return what the leaves of each row of x [n, width] add up to, [n, outputs]."""
        step = max(1, _STEPS // len(self._forest.trees))
        return np.concatenate([self._sums(x[begin : begin + step]) for begin in range(0, len(x), step)])

    def _sums(self, x: Float32s) -> Floats:
        rows = np.arange(len(x))[:, None]
        at = np.tile(self._forest.roots, (len(x), 1))
        for _ in range(self._levels):
            values = x[rows, self._feature[at]]
            at = np.where(self._goes_left(at, values), self._left[at], self._right[at])
        leaves = self._forest.value[at[:, self._order]]
        return np.add.reduceat(leaves, self._begins, axis=1) + self._forest.base

    def _goes_left(self, at: Ints, values: Float32s) -> Bools:
        forest = self._forest
        missing = np.isnan(values)
        if self._zeros:
            missing |= forest.zero_missing[at] & (np.abs(values) <= ZERO)
        left = np.where(missing, forest.missing_left[at], values <= forest.threshold[at])
        return np.where(forest.subset[at] >= 0, self._in_set(at, values), left) if self._sets else left

    def _in_set(self, at: Ints, values: Float32s) -> Bools:
        forest = self._forest
        size = forest.subsets.shape[1]
        known = (values > -1) & (values < size)
        members = forest.subsets[forest.subset[at], np.where(known, values, 0).astype(np.int64)]
        return np.where(np.isnan(values), forest.missing_left[at], members & known)


def answers(sums: Floats, link: Link, slope: float) -> Floats:
    """Return what the link makes of the sums [n, outputs]."""
    z = sums * slope
    with np.errstate(over="ignore"):  # an infinite power is a probability of 0
        if link == "sigmoid":
            return 1 / (1 + np.exp(-z))
        if link == "exp":
            return np.exp(z)
        if link == "log1p exp":
            return np.logaddexp(0, z)
    if link == "signed square":
        return np.sign(z) * z * z
    if link == "softmax":
        powers = np.exp(z - z.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)
    return z
