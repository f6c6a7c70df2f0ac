"""A profile as bytes and back: versioned, compressed, checked; equal profiles give equal bytes."""

from __future__ import annotations

from base64 import b64decode, b64encode
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from holdtrue_stats.histogram import State
from holdtrue_stats.packing import PackingError, pack, unpack

from holdtrue_lake.categories import Categories
from holdtrue_lake.exact import Numbers
from holdtrue_lake.layout import Layout
from holdtrue_lake.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

_KIND = "data profile"
_MANY = -1
_STATE = ("hist", "bin_sum", "sq_sum", "clipped")


def to_bytes(profile: Profile) -> bytes:
    """Return the profile and its layout, without the layout's key."""
    arrays: dict[str, npt.NDArray[Any]] = {"rows": profile.rows, "missing": profile.missing}
    arrays["infinite"] = np.array([[n.infinite for n in each] for each in profile.numbers], np.int64)
    for name in _STATE:
        arrays[name] = np.stack([getattr(state, name) for state in profile.states])
    arrays |= _joined("sketch", [each.view(np.int64) for each in profile.sketches])
    arrays |= _joined("category", [each.hashes.view(np.int64) for each in profile.categories])
    for place, each in enumerate(profile.categories):
        if each.many:
            arrays["category_sizes"][place] = _MANY
    arrays["category_counts"] = np.concatenate(
        [np.zeros((0, profile.layout.groups), np.int64), *(each.counts for each in profile.categories)]
    )
    meta = {
        "layout": b64encode(profile.layout.to_bytes()).decode(),
        "numbers": [[_written(one) for one in each] for each in profile.numbers],
        "names": [each.names for each in profile.categories],
    }
    return pack(_KIND, arrays, meta)


def from_bytes(data: bytes, key: bytes = b"") -> Profile:
    """Read what `to_bytes` wrote; `key` is that of the layout, needed only to count more rows with it.

    Raises PackingError, which says what is wrong with the bytes or with the key.
    """
    arrays, meta = unpack(_KIND, data)
    try:
        layout = Layout.from_bytes(b64decode(meta["layout"], validate=True)).with_key(key)
        profile = _profile(layout, arrays, meta)
    except (TypeError, KeyError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise PackingError(f"these are not the parts of a {_KIND}: {error}") from error
    _check(profile)
    return profile


def _profile(layout: Layout, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> Profile:
    states = [
        State(**{name: arrays[name][k] for name in _STATE}, n=arrays["rows"][k : k + 1].copy())
        for k in range(layout.groups)
    ]
    infinite = arrays["infinite"].reshape(len(meta["numbers"]), layout.groups)
    numbers = [
        tuple(_read(one, int(lost)) for one, lost in zip(each, lots, strict=True))
        for each, lots in zip(meta["numbers"], infinite, strict=True)
    ]
    sketches = _apart(arrays["sketch"], arrays["sketch_sizes"])
    sizes = arrays["category_sizes"]
    hashes = _apart(arrays["category"], np.maximum(sizes, 0))
    counts = _apart(arrays["category_counts"], np.maximum(sizes, 0))
    found = [
        Categories(one.view(np.uint64), many, {int(k): v for k, v in names.items()}, bool(size == _MANY))
        for one, many, names, size in zip(hashes, counts, meta["names"], sizes, strict=True)
    ]
    return Profile(
        layout,
        arrays["rows"],
        arrays["missing"],
        tuple(states),
        tuple(numbers),
        tuple(each.view(np.uint64) for each in sketches),
        tuple(found),
    )


def _check(profile: Profile) -> None:
    layout = profile.layout
    numbers, categories = len(layout.of_kind("number")), len(layout.of_kind("category"))
    shapes = {
        "rows": (profile.rows.shape, (layout.groups,)),
        "missing values": (profile.missing.shape, (len(layout.names), layout.groups)),
        "histograms": (profile.states[0].bin_sum.shape, (layout.edges.features, layout.edges.bins)),
        "sums": ((len(profile.numbers),), (numbers,)),
        "categories": ((len(profile.categories),), (categories,)),
        "category counts": ({each.counts.shape[1:] for each in profile.categories} - {(layout.groups,)}, set[Any]()),
        "distinct values": ((len(profile.sketches),), (numbers + categories,)),
    }
    for what, (got, wanted) in shapes.items():
        if got != wanted:
            raise PackingError(f"the {what} of a {_KIND} do not fit its layout: expected {wanted}, got {got}")


def _joined(name: str, parts: Sequence[Ints]) -> dict[str, npt.NDArray[Any]]:
    sizes = np.array([len(part) for part in parts], np.int64)
    return {name: np.concatenate([np.empty(0, np.int64), *parts]), f"{name}_sizes": sizes}


def _apart(joined: Ints, sizes: Ints) -> list[Ints]:
    if (sizes < 0).any() or sizes.sum() != len(joined):
        raise ValueError(f"sizes that sum to {sizes.sum()} do not cut {len(joined)} values")
    return np.split(joined, np.cumsum(sizes)[:-1]) if len(sizes) else []


def _written(one: Numbers) -> list[Any]:
    fractions = (one.total, one.squares)
    return [one.count, one.low, one.high, *([hex(f.numerator), f.denominator.bit_length() - 1] for f in fractions)]


def _read(written: Sequence[Any], infinite: int) -> Numbers:
    count, low, high, *fractions = written
    total, squares = (Fraction(int(top, 16), 1 << bits) for top, bits in fractions)
    return Numbers(count, infinite, low, high, total, squares)
