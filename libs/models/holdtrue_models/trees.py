"""Checks of the trees of a loaded scikit-learn model, before it predicts for the first time.

scikit-learn follows the indices in its tree nodes without a look at their range: a wrong one reads or writes foreign
memory. All trees of a model are checked together, as one array of nodes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

from holdtrue_models.errors import UnsafeModel

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Ints
    from numpy.typing import NDArray


Foreign = Any  # objects of scikit-learn, which carry no types

_TREE = cast("type[Any]", importlib.import_module("sklearn.tree._tree").Tree)
_PREDICTOR = cast("type[Any]", TreePredictor)
_DIRECT = ("_forest", "_gb", "_weight_boosting")
"""Modules of ensembles that hand their input to their trees unchecked."""
_BITSET_WORDS = 8
_CATEGORIES = 256


def check_trees(model: Foreign) -> int:
    """Return the number of trees in the model, wherever they are. Raises UnsafeModel if one could harm the process."""
    trees: list[tuple[Foreign, int]] = []
    predictors: list[tuple[Foreign, Foreign]] = []
    found: list[Foreign] = []
    for owner in parts(model):
        if isinstance(owner, _TREE | _PREDICTOR):
            found.append(owner)
            continue
        fields = attributes(owner)
        _check_members(owner, fields)
        tree = fields.get("tree_")
        if isinstance(tree, _TREE):
            trees.append((tree, _width(owner)))
        predictors.extend((p, owner) for p in _flat(fields.get("_predictors")))
    if {id(node) for node in found} != {id(node) for node, _ in (*trees, *predictors)}:
        raise UnsafeModel("the model holds a tree outside of an estimator that is known to have trees")
    if trees:
        _check_sklearn_trees(trees)
    if predictors:
        _check_predictors(predictors)
    return len(found)


def parts(model: Foreign) -> Iterator[Foreign]:
    """Every object with attributes below the model and every tree, once."""
    seen: set[int] = set()
    waiting: list[Foreign] = [model]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, str | bytes | int | float | type):
            continue
        seen.add(id(value))
        if isinstance(value, _TREE | _PREDICTOR):
            yield value
        elif isinstance(value, Mapping):
            waiting.extend(cast("Mapping[Any, Any]", value).values())
        elif isinstance(value, list | tuple | set | frozenset):
            waiting.extend(cast("Iterable[Any]", value))
        elif isinstance(value, np.ndarray):
            waiting.extend(_items(cast("NDArray[Any]", value)))
        elif hasattr(value, "__dict__"):
            yield value
            waiting.extend(attributes(value).values())


def attributes(owner: Foreign) -> dict[str, Foreign]:
    """What an object has; a tree has none."""
    return cast("dict[str, Foreign]", getattr(owner, "__dict__", {}))


def _items(array: NDArray[Any]) -> list[Foreign]:
    return array.ravel().tolist() if array.dtype == object else []


def _width(owner: Foreign) -> int:
    width = attributes(owner).get("n_features_in_")
    if not isinstance(width, int | np.integer) or width < 1:
        raise UnsafeModel(f"{type(owner).__name__} does not say how many features it takes")
    return int(cast("int", width))


def _flat(nested: Foreign) -> list[Foreign]:
    if isinstance(nested, list | tuple):
        return [leaf for item in cast("Iterable[Any]", nested) for leaf in _flat(item)]
    return [] if nested is None else [nested]


def _check_members(owner: Foreign, fields: Mapping[str, Foreign]) -> None:
    """See that an ensemble hands its members rows as wide as their trees, and has room for all that they answer."""
    if (
        type(owner).__module__.rpartition(".")[2] not in (*_DIRECT, "_bagging", "_iforest")
        or "estimators_" not in fields
    ):
        return
    members = np.asarray(fields["estimators_"], dtype=object)
    width = _width(owner)
    chosen = fields.get("estimators_features_")
    widths = [width] * members.size if chosen is None else [_chosen(features, width) for features in chosen]
    if len(widths) != members.size or any(_width(m) != w for m, w in zip(members.ravel(), widths, strict=True)):
        raise UnsafeModel(f"a member of {type(owner).__name__} takes other features than it would be given")
    per_round = fields.get("n_trees_per_iteration_")
    if per_round is not None and (members.ndim != 2 or members.shape[1] != per_round or not _fits(owner, per_round)):  # noqa: PLR2004 - rounds, trees
        raise UnsafeModel(f"{type(owner).__name__} has other trees in a round than it has room for")


def _chosen(features: Foreign, width: int) -> int:
    index = np.asarray(features)
    if index.dtype.kind not in "iu" or index.size == 0 or index.min() < 0 or index.max() >= width:
        raise UnsafeModel(f"an ensemble gives a member other columns than the {width} that it has")
    return index.size


def _fits(owner: Foreign, per_round: int) -> bool:
    """Whether the first guess of gradient boosting has as many columns as its rounds have trees."""
    classes = attributes(owner).get("classes_")
    if classes is None:
        return per_round == 1
    prior = getattr(attributes(owner).get("init_"), "class_prior_", classes)
    return len(prior) == len(classes) and per_round == (1 if len(classes) == 2 else len(classes))  # noqa: PLR2004 - binary


def _check_sklearn_trees(trees: list[tuple[Foreign, int]]) -> None:
    if any(tree.n_features != width for tree, width in trees):
        raise UnsafeModel("a tree was grown for other features than its estimator takes")
    sizes = np.array([tree.node_count for tree, _ in trees], np.int64)
    left, right, feature = (
        np.concatenate([getattr(tree, name) for tree, _ in trees]).astype(np.int64)
        for name in ("children_left", "children_right", "feature")
    )
    threshold = np.concatenate([tree.threshold for tree, _ in trees])
    values = np.concatenate([tree.value.ravel() for tree, _ in trees])
    leaf = left == -1
    if len(left) != sizes.sum() or not np.array_equal(right == -1, leaf):
        raise UnsafeModel("a tree has a node with one child, or another number of nodes than it says")
    depths = _check_shape(left, right, leaf, sizes)
    if any(tree.max_depth < depth for (tree, _), depth in zip(trees, depths, strict=True)):
        raise UnsafeModel("a tree is deeper than it says")
    _check_features(feature[~leaf], np.repeat([width for _, width in trees], sizes)[~leaf])
    if not np.isfinite(values).all() or np.isnan(threshold[~leaf]).any():
        raise UnsafeModel("a tree has a value that is not finite")


def _check_shape(left: Ints, right: Ints, leaf: NDArray[np.bool_], sizes: Ints) -> list[int]:
    """Return the depth of each tree. Children must come after their parent, in their tree, and have one parent each.

    left, right and leaf are the nodes of all trees, one tree after the other; children count within their tree.
    """
    if sizes.min() < 1:
        raise UnsafeModel("a tree has no nodes")
    begins = np.cumsum(sizes) - sizes
    first = np.repeat(begins, sizes)
    own = np.arange(len(left)) - first
    inner = ~leaf
    size = np.repeat(sizes, sizes)
    for child in (left, right):
        if (child[inner] <= own[inner]).any() or (child[inner] >= size[inner]).any():
            raise UnsafeModel("a tree has a child index out of order or range; following it could end anywhere")
    left, right = left + first, right + first
    parents = np.bincount(np.concatenate([left[inner], right[inner]]), minlength=len(left))
    parents[begins] += 1
    if (parents != 1).any():
        raise UnsafeModel("a tree has a node with two parents, or with none")
    return _depths(left, right, inner, begins)


def _depths(left: Ints, right: Ints, inner: NDArray[np.bool_], begins: Ints) -> list[int]:
    depths = np.zeros(len(begins), np.int64)
    nodes, tree = begins, np.arange(len(begins))
    level = 0
    while (going := inner[nodes]).any():
        nodes, tree = nodes[going], tree[going]
        nodes, tree = np.concatenate([left[nodes], right[nodes]]), np.concatenate([tree, tree])
        level += 1
        depths[tree] = level
    return depths.tolist()


def _check_features(feature: Ints, width: NDArray[Any]) -> None:
    if (feature < 0).any() or (feature >= width).any():
        raise UnsafeModel("a tree asks for a feature that the model does not take")


def _check_predictors(predictors: list[tuple[Foreign, Foreign]]) -> None:
    if any(not isinstance(p, _PREDICTOR) or p.nodes.ndim != 1 for p, _ in predictors):
        raise UnsafeModel("a list of trees holds something else")
    sizes = np.array([len(p.nodes) for p, _ in predictors], np.int64)
    nodes = np.concatenate([p.nodes for p, _ in predictors])
    leaf = nodes["is_leaf"].astype(bool)
    _check_shape(nodes["left"].astype(np.int64), nodes["right"].astype(np.int64), leaf, sizes)
    widths = np.repeat([_width(owner) for _, owner in predictors], sizes)
    _check_features(nodes["feature_idx"][~leaf].astype(np.int64), widths[~leaf])
    if not np.isfinite(nodes["value"]).all() or np.isnan(nodes["num_threshold"][~leaf]).any():
        raise UnsafeModel("a tree has a value that is not finite")
    if nodes["is_categorical"].any():
        for predictor, owner in predictors:
            _check_categories(predictor, owner)


def _check_categories(predictor: Foreign, owner: Foreign) -> None:
    nodes = predictor.nodes[(predictor.nodes["is_leaf"] == 0) & (predictor.nodes["is_categorical"] != 0)]
    if not len(nodes):
        return
    mapper = owner._bin_mapper  # noqa: SLF001 - scikit-learn gives no other way
    categorical = np.asarray(mapper.is_categorical_)
    if len(categorical) != _width(owner) or not categorical[nodes["feature_idx"]].all():
        raise UnsafeModel("a tree splits a feature by categories that has none")
    for sets in (predictor.raw_left_cat_bitsets, predictor.binned_left_cat_bitsets):
        if sets.ndim != 2 or sets.shape[1] != _BITSET_WORDS or (nodes["bitset_idx"] >= len(sets)).any():  # noqa: PLR2004 - sets, words
            raise UnsafeModel("a tree has a set of categories out of range")
    known = [np.asarray(mapper.bin_thresholds_[i]) for i in np.flatnonzero(categorical)]
    if any(((values < 0) | (values >= _CATEGORIES)).any() for values in known):
        raise UnsafeModel("the model knows a category outside of 0 to 255")
