"""Read what XGBoost saves as UBJSON, without XGBoost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from holdtrue_models.errors import MalformedModel, UnsafeModel, UnsupportedModel
from holdtrue_models.forest import TREES, Forest, Link, check_forest, matrix_of
from holdtrue_models.ubjson import read_ubjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_stats.arrays import Bools, Floats, Ints
    from numpy.typing import NDArray


Node = dict[str, Any]  # an object of the file

BYTES = 512 << 20
_CATEGORY = 1

_LINKS: dict[str, tuple[Link, Callable[[float], float]]] = {
    **dict.fromkeys(("binary:logistic", "reg:logistic"), ("sigmoid", lambda p: math.log(p / (1 - p)))),
    **dict.fromkeys(("multi:softprob", "multi:softmax"), ("softmax", float)),
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie"), ("exp", math.log)),
    **dict.fromkeys(
        (
            "reg:absoluteerror",
            "reg:pseudohubererror",
            "reg:quantileerror",
            "reg:squarederror",
            "reg:squaredlogerror",
        ),
        ("identity", float),
    ),
}
"""Objective → from sums to answers, and from the file's base score, which is an answer, to a sum."""


def read_xgboost(data: bytes) -> Forest:
    """Return the trees of a .ubj file, checked. Raises MalformedModel, UnsafeModel or UnsupportedModel."""
    if len(data) > BYTES:
        raise UnsafeModel(f"the XGBoost file has {len(data)} bytes, at most {BYTES} are loaded")
    learner = _object({"file": read_ubjson(data)}, "file", "learner")
    booster = _object(learner, "gradient_booster")
    name = _text(booster, "name")
    if name not in {"gbtree", "dart"}:
        raise UnsupportedModel(f"XGBoost's booster {name!r} is not read, only 'gbtree' and 'dart'")
    model = _object(_object(booster, "gbtree") if name == "dart" else booster, "model")
    trees = _list(model, "trees")
    if not 1 <= len(trees) <= TREES:
        raise UnsafeModel(f"the XGBoost file has {len(trees)} trees; 1 to {TREES} are loaded")
    _check_rounds(learner, model)
    forest = _forest(learner, [_object({"tree": tree}, "tree") for tree in trees], _list(model, "tree_info"))
    if name == "dart":
        forest.value[:] *= np.repeat(_weights(booster, len(trees)), np.diff([*forest.roots, len(forest.left)]))
    check_forest(forest)
    return forest


def _check_rounds(learner: Node, model: Node) -> None:
    """Raise UnsupportedModel where it depends on who predicts how many rounds count."""
    best = learner.get("attributes", {}).get("best_iteration") if isinstance(learner.get("attributes"), dict) else None
    rounds = len(_list(model, "iteration_indptr")) - 1
    if isinstance(best, str) and best.isdecimal() and int(best[:9]) + 1 < rounds:
        raise UnsupportedModel(
            f"the XGBoost file has {rounds} rounds, of which early stopping chose the first {int(best[:9]) + 1}: "
            f"save what you mean, `booster[: {int(best[:9]) + 1}].save_model(...)`"
        )


def _forest(learner: Node, trees: list[Node], info: list[Any]) -> Forest:
    parameters = _object(learner, "learner_model_param")
    outputs = max(1, _number(parameters, "num_class"))
    if _number(parameters, "num_target") != 1 or outputs > len(trees):
        raise UnsupportedModel("the XGBoost model answers with several numbers")
    objective = _text(_object(learner, "objective"), "name")
    if objective not in _LINKS:
        raise UnsupportedModel(f"XGBoost's objective {objective!r} is not read, only {sorted(_LINKS)}")
    link, to_sum = _LINKS[objective]
    sizes = np.array([_nodes(tree) for tree in trees])
    roots = np.cumsum(sizes) - sizes
    if len(info) != len(trees) or not all(type(group) is int for group in info):
        raise MalformedModel("the XGBoost file does not say for each tree what it adds to")
    nodes = _Nodes(trees, sizes, roots)
    return Forest(
        width=_number(parameters, "num_feature"),
        link=link,
        base=_base(_text(parameters, "base_score"), outputs, to_sum),
        trees=np.array(info, np.int64),
        roots=roots,
        **nodes.arrays(),
    )


def _nodes(tree: Node) -> int:
    """Return how many nodes a tree has, which must be there: what it says alone would make room for any number."""
    count = _number(_object(tree, "tree_param"), "num_nodes")
    if not 1 <= count == len(_array(tree, "left_children", np.int32)):
        raise UnsafeModel(f"a tree has no nodes, or another number of 'left_children' than {count}")
    return count


class _Nodes:
    """The nodes of all trees, one tree after the other."""

    def __init__(self, trees: list[Node], sizes: Ints, roots: Ints) -> None:
        self._trees, self._sizes = trees, sizes
        self._first = np.repeat(roots, sizes)
        self._size = np.repeat(sizes, sizes)

    def arrays(self) -> Node:
        conditions = self._column("split_conditions", np.float32)
        left, right = self._children("left_children"), self._children("right_children")
        missing_left = self._column("default_left", np.uint8) != 0
        subset, subsets = self._subsets()
        divides = subset >= 0  # what XGBoost sends right for being in the set goes left here
        leaf = left < 0
        return {
            "left": np.where(divides, right, left),
            "right": np.where(divides, left, right),
            "feature": self._column("split_indices", np.int32).astype(np.int64),
            "threshold": np.where(divides, np.float32(0), np.nextafter(conditions, np.float32(-np.inf))),
            "missing_left": missing_left ^ divides,
            "zero_missing": np.zeros(len(left), bool),
            "subset": subset,
            "subsets": subsets,
            "value": np.where(leaf, conditions, 0).astype(np.float64),
            "gain": self._column("loss_changes", np.float32).astype(np.float64),
        }

    def _children(self, name: str) -> Ints:
        own = self._column(name, np.int32).astype(np.int64)
        if (own < -1).any() or (own >= self._size).any():
            raise UnsafeModel("a tree has a child index out of range")
        return np.where(own < 0, -1, own + self._first)

    def _column(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        parts = [_array(tree, name, dtype) for tree in self._trees]
        if any(len(part) != size for part, size in zip(parts, self._sizes, strict=True)):
            raise UnsafeModel(f"a tree has another number of {name!r} than of nodes")
        return np.concatenate(parts).astype(dtype)

    def _subsets(self) -> tuple[Ints, Bools]:
        """Return for each node the place of its set, and the sets."""
        kinds = self._column("split_type", np.uint8)
        subset = np.full(len(kinds), -1)
        places = np.flatnonzero(kinds == _CATEGORY)
        subset[places] = np.arange(len(places))
        sets = [found for tree in self._trees for found in _sets(tree)]
        wanted = [
            i + first for tree, first in zip(self._trees, np.unique(self._first), strict=True) for i in _owners(tree)
        ]
        if (kinds > _CATEGORY).any() or wanted != places.tolist():
            raise UnsafeModel("a tree divides by categories of which it has none")
        return subset, matrix_of(sets)


def _owners(tree: Node) -> list[int]:
    return cast("list[int]", _array(tree, "categories_nodes", np.int32).tolist())


def _sets(tree: Node) -> list[Ints]:
    """Return the categories of each node that divides by them."""
    members = _array(tree, "categories", np.int32).astype(np.int64)
    begins, sizes = (_array(tree, f"categories_{name}", np.int64).astype(np.int64) for name in ("segments", "sizes"))
    ends = begins + sizes
    fits = len(begins) == len(sizes) == len(_owners(tree))
    if not fits or (begins < 0).any() or (sizes < 0).any() or (ends > len(members)).any() or (members < 0).any():
        raise UnsafeModel("a tree has a set of categories out of range")
    return [members[begin:end] for begin, end in zip(begins, ends, strict=True)]


def _base(text: str, outputs: int, to_sum: Callable[[float], float]) -> Floats:
    """Return the base scores: since version 3.1 one of each output, in brackets."""
    try:
        scores = [to_sum(float(word)) for word in text.strip("[]").split(",")]
    except (ValueError, ZeroDivisionError) as error:
        raise MalformedModel(f"the XGBoost file has the base score {text[:50]!r}") from error
    if len(scores) not in {1, outputs}:
        raise MalformedModel(f"the XGBoost file has {len(scores)} base scores for {outputs} outputs")
    return np.resize(np.array(scores, np.float64), outputs)


def _object(node: Node, *names: str) -> Node:
    """Return the object that the names lead to."""
    for name in names:
        value = node.get(name)
        if not isinstance(value, dict):
            raise MalformedModel(f"the XGBoost file has no object {name!r} where one should be")
        node = cast("Node", value)
    return node


def _list(node: Node, name: str) -> list[Any]:
    value = node.get(name)
    if not isinstance(value, list):
        raise MalformedModel(f"the XGBoost file has no list {name!r} where one should be")
    return cast("list[Any]", value)


def _text(node: Node, name: str) -> str:
    value = node.get(name)
    if not isinstance(value, str):
        raise MalformedModel(f"the XGBoost file has no text {name!r} where one should be")
    return value


def _number(node: Node, name: str) -> int:
    """Return a number that stands as a text, as in all that XGBoost takes for parameters."""
    text = _text(node, name)
    if not text.isascii() or not text.isdigit() or len(text) > 9:  # noqa: PLR2004 - below a billion
        raise MalformedModel(f"the XGBoost file has {text[:20]!r} as {name}")
    return int(text)


def _array(node: Node, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    value = node.get(name)
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        if array.dtype == np.dtype(dtype).newbyteorder(">"):
            return array
    raise MalformedModel(f"the XGBoost file has no numbers of the right kind in {name!r}")


def _weights(booster: Node, count: int) -> Floats:
    """Return what the leaves of each tree are multiplied by."""
    items = _list(booster, "weight_drop")
    weights = np.array([item for item in items if isinstance(item, int | float)], np.float64)
    if len(items) != count or weights.shape != (count,) or not np.isfinite(weights).all():
        raise MalformedModel("the XGBoost file has other weights than trees")
    return weights
