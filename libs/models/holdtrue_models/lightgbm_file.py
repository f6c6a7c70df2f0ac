"""Read the text that LightGBM saves, without LightGBM."""

from __future__ import annotations

import io
import re
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from holdtrue_models.errors import MalformedModel, UnsafeModel, UnsupportedModel
from holdtrue_models.forest import CELLS, TREES, Forest, Link, check_forest, matrix_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdtrue_stats.arrays import Bools, Float32s, Floats, Ints
    from numpy.typing import NDArray


Block = dict[str, str]  # what stands before and behind the = of each line

BYTES = 256 << 20
LINE_BYTES = 16 << 20
LEAVES = 131_072
"""Of one tree; LightGBM grows no more."""
_LINES_OF_A_BLOCK = 100
_NUMBERS = re.compile(r"[-+.0-9aefinE ]*")
_COUNT = re.compile(r"[0-9]{1,9}")
_SLOPE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,20})?(?:[eE][-+]?[0-9]{1,2})?")
_EXACT = 1 << 53
_WORD_BITS = 32
_CATEGORICAL, _DEFAULT_LEFT, _MISSING, _ZERO = 1, 2, 12, 4

_LINKS: dict[str, Link] = {
    "": "identity",
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape"), "identity"),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "exp"),
    **dict.fromkeys(("binary", "cross_entropy", "multiclassova"), "sigmoid"),
    "cross_entropy_lambda": "log1p exp",
    "multiclass": "softmax",
}
"""Objective → from sums to answers; a model without one gives its sums."""


def read_lightgbm(data: bytes) -> Forest:
    """Return the trees of a LightGBM file, checked. Raises MalformedModel, UnsafeModel or UnsupportedModel."""
    if len(data) > BYTES:
        raise UnsafeModel(f"the LightGBM file has {len(data)} bytes, at most {BYTES} are loaded")
    blocks = _blocks(data)
    head = next(blocks)
    said = len(head.get("tree_sizes", "").split())
    if not 1 <= said <= TREES:
        raise UnsafeModel(f"the LightGBM file has {said} trees; 1 to {TREES} are loaded")
    trees = [_Tree(block, number) for number, block in enumerate(islice(blocks, said + 1))]
    if len(trees) != said:
        raise MalformedModel(f"the LightGBM file has another number of trees than {said}, which its head says")
    forest = _forest(head, trees)
    check_forest(forest)
    return forest


def _forest(head: Block, trees: list[_Tree]) -> Forest:
    outputs = _integer(head, "num_tree_per_iteration")
    if not 1 <= outputs <= len(trees) or len(trees) % outputs:
        raise MalformedModel(f"the LightGBM file has {len(trees)} trees in rounds of {outputs}")
    link, slope = _link(head.get("objective", ""))
    nodes = np.array([tree.nodes for tree in trees])
    roots = np.cumsum(nodes) - nodes
    first = np.repeat(roots, nodes)
    kinds = _joined(tree.kinds for tree in trees)
    left, right = (_joined(tree.children(side) for tree in trees) for side in ("left", "right"))
    thresholds = _joined(tree.thresholds for tree in trees)
    subset, subsets = _subsets(trees, kinds, thresholds)
    missing = kinds & _MISSING
    rounds = len(trees) // outputs if "average_output" in head else 1
    return Forest(
        width=1 + _integer(head, "max_feature_idx"),
        link=link,
        slope=slope,
        base=np.zeros(outputs),
        trees=np.tile(np.arange(outputs), len(trees) // outputs),
        roots=roots,
        left=np.where(left < 0, -1, left + first),
        right=np.where(right < 0, -1, right + first),
        feature=_joined(tree.features for tree in trees),
        threshold=_up_to(thresholds),
        missing_left=_missing_left(kinds, thresholds),
        zero_missing=(missing == _ZERO) & (subset < 0),
        subset=subset,
        subsets=subsets,
        value=_joined(tree.values for tree in trees) / rounds,
        gain=_joined(tree.gains for tree in trees),
    )


def _up_to(thresholds: Floats) -> Float32s:
    """Return the largest float32 that is not above each threshold: the same float32 values are up to it."""
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def _missing_left(kinds: Ints, thresholds: Floats) -> Bools:
    """Return where a missing value goes: as each division says, as zero would, or to where no set of categories is."""
    told = (kinds & _DEFAULT_LEFT) != 0
    as_zero = (kinds & _MISSING) == 0
    return np.where(as_zero, thresholds >= 0, told) & ((kinds & _CATEGORICAL) == 0)


def _subsets(trees: list[_Tree], kinds: Ints, thresholds: Floats) -> tuple[Ints, Bools]:
    """Return for each node the place of its set, or -1, and the sets."""
    sets = [tree.sets() for tree in trees]
    counts = [len(of_tree) for of_tree in sets]
    nodes = [tree.nodes for tree in trees]
    by_set = (kinds & _CATEGORICAL) != 0
    own = np.where(by_set, thresholds, 0)
    if not ((own >= 0) & (own < np.repeat(np.maximum(counts, 1), nodes)) & (own % 1 == 0)).all():
        raise UnsafeModel("a tree has a set of categories out of range")
    first = np.repeat(np.cumsum(counts) - counts, nodes)
    return np.where(by_set, own.astype(np.int64) + first, -1), matrix_of([s for of_tree in sets for s in of_tree])


def _joined(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(list(parts))


def _link(objective: str) -> tuple[Link, float]:
    """Return what makes answers of sums, and what the sums are multiplied by before."""
    name, *words = objective.split() or [""]
    if name == "regression" and words == ["sqrt"]:
        return "signed square", 1.0
    if name not in _LINKS:
        raise UnsupportedModel(f"LightGBM's objective {name[:50]!r} is not read, only {sorted(filter(None, _LINKS))}")
    slope = next((word.partition(":")[2] for word in words if word.startswith("sigmoid:")), "1")
    if not _SLOPE.fullmatch(slope) or not float(slope):
        raise MalformedModel(f"the LightGBM file has the objective {objective[:50]!r}")
    return _LINKS[name], float(slope)


def _integer(block: Block, name: str) -> int:
    text = block.get(name, "")
    if not _COUNT.fullmatch(text):
        raise MalformedModel(f"the LightGBM file has {text[:20]!r} as {name}")
    return int(text)


def _blocks(data: bytes) -> Iterator[Block]:
    """Yield the head, then every tree. Raises MalformedModel unless it all ends as LightGBM does."""
    block: Block = {}
    for line in _lines(data):
        if line == "end of trees":
            yield block
            return
        name, _, value = line.partition("=")
        if name == "Tree":
            yield block
            block = {}
        if name in block or len(block) == _LINES_OF_A_BLOCK:
            raise MalformedModel(f"the LightGBM file has {name[:50]!r} twice in a tree, or too many lines")
        if name:
            block[name] = value
    raise MalformedModel("the LightGBM file is cut off")


def _lines(data: bytes) -> Iterator[str]:
    for line in io.BytesIO(data):
        if len(line) > LINE_BYTES:
            raise UnsafeModel(f"the LightGBM file has a line of more than {LINE_BYTES} bytes")
        try:
            yield line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise MalformedModel("the LightGBM file has a line that is not UTF-8") from error


class _Tree:
    """One tree: divisions first, then leaves, as places within it."""

    def __init__(self, block: Block, number: int) -> None:
        if block.get("Tree") != str(number):
            raise MalformedModel(f"the LightGBM file has the tree {block.get('Tree', '')[:20]!r} as number {number}")
        self._block = block
        leaves = _integer(block, "num_leaves")
        if not 1 <= leaves <= LEAVES:
            raise UnsafeModel(f"a tree has {leaves} leaves; 1 to {LEAVES} are loaded")
        if block.get("is_linear", "0") != "0":
            raise UnsupportedModel("linear trees of LightGBM are not read; train with linear_tree=false")
        self._divisions, self._leaves = leaves - 1, leaves
        self.nodes = 2 * leaves - 1
        self.kinds = self._all(self._integers("decision_type"), 0)
        self.features = self._all(self._integers("split_feature"), 0)
        self.thresholds = self._all(self._floats("threshold", self._divisions), 0)
        self.gains = self._all(self._floats("split_gain", self._divisions), 0)
        self.values = np.concatenate([np.zeros(self._divisions), self._floats("leaf_value", leaves)])

    def children(self, side: str) -> Ints:
        """Return the children of all nodes, -1 of leaves; in the file -1 - k is the leaf k."""
        own = self._integers(f"{side}_child")
        if (own < -self._leaves).any() or (own >= self._divisions).any():
            raise UnsafeModel("a tree has a child index out of range")
        return self._all(np.where(own < 0, self._divisions - 1 - own, own), -1)

    def sets(self) -> list[Ints]:
        """Return the categories of each set."""
        count = _integer(self._block, "num_cat")
        if count > self._divisions:
            raise UnsafeModel("a tree has more sets of categories than divisions")
        if not count:
            return []
        bounds = self._integers("cat_boundaries", count + 1)
        if bounds[0] or (np.diff(bounds) < 0).any() or bounds[-1] * _WORD_BITS > CELLS:
            raise UnsafeModel("a tree has a set of categories out of range")
        words = self._integers("cat_threshold", int(bounds[-1]))
        if (words < 0).any() or (words >> _WORD_BITS).any():
            raise UnsafeModel("a tree has a set of categories out of range")
        bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").reshape(-1, _WORD_BITS)
        return [np.flatnonzero(bits[begin:end]) for begin, end in pairwise(bounds)]

    def _all(self, of_divisions: NDArray[Any], leaf: int) -> NDArray[Any]:
        return np.concatenate([of_divisions, np.full(self._leaves, leaf, of_divisions.dtype)])

    def _integers(self, name: str, count: int | None = None) -> Ints:
        numbers = self._floats(name, self._divisions if count is None else count)
        if not (np.abs(numbers) < _EXACT).all() or (numbers % 1).any():  # what is not finite is refused, too
            raise MalformedModel(f"the LightGBM file has numbers out of range in {name!r}")
        return numbers.astype(np.int64)

    def _floats(self, name: str, count: int) -> Floats:
        text = self._block.get(name, "")
        words = text.split() if _NUMBERS.fullmatch(text) else []
        if len(words) != count:
            raise UnsafeModel(f"a tree has {len(words)} numbers in {name!r}, not {count}")
        try:
            return np.array([float(word) for word in words], np.float64)
        except ValueError as error:
            raise MalformedModel(f"the LightGBM file has something else than numbers in {name!r}") from error
