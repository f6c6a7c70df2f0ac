"""What changed between two profiles: the statistical part of comparing two versions of a dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from holdtrue_stats.divergence import psi

if TYPE_CHECKING:
    from holdtrue_lake.categories import Categories
    from holdtrue_lake.profile import Profile


@dataclass(frozen=True, slots=True)
class Change:
    """One column, before and after; nan where a side has nothing to say.

    `psi` is the population stability index of the values that are there. `missing` are shares of rows. `appeared` and
    `vanished` are categories that only one side has, named where names are known; `unseen` is the share of the values
    afterwards whose category was not there before.
    """

    column: str
    psi: float
    missing: tuple[float, float]
    mean: tuple[float, float]
    std: tuple[float, float]
    appeared: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    unseen: float = math.nan


def compare(before: Profile, after: Profile) -> list[Change]:
    """Compare column by column, in the layout's order. Raises ValueError where rows were counted in other ways."""
    if not before.layout.equals(after.layout):
        raise ValueError("profiles of different layouts do not compare; profile both versions with the same Layout")
    layout = before.layout
    shifts = psi(before.state().hist[:, :-1], after.state().hist[:, :-1])
    numbers, categories = iter(shifts.tolist()), iter(zip(before.categories, after.categories, strict=True))
    changes: list[Change] = []
    for name, kind in zip(layout.names, layout.kinds, strict=True):
        if kind == "category":
            changes.append(_categories(before, after, name, *next(categories)))
        else:
            changes.append(_change(before, after, name, next(numbers) if kind == "number" else math.nan))
    return changes


def _change(before: Profile, after: Profile, name: str, shift: float) -> Change:
    a, b = before.summary(name), after.summary(name)
    lost = tuple(side.missing / side.rows if side.rows else math.nan for side in (a, b))
    return Change(name, shift, (lost[0], lost[1]), (a.mean, b.mean), (a.std, b.std))


def _categories(before: Profile, after: Profile, name: str, old: Categories, new: Categories) -> Change:
    plain = _change(before, after, name, math.nan)
    if old.many or new.many:
        return plain
    hashes = np.union1d(old.hashes, new.hashes)
    counts = np.zeros((2, len(hashes)), np.int64)
    for side, each in zip(counts, (old, new), strict=True):
        side[np.searchsorted(hashes, each.hashes)] = each.counts.sum(1)
    names, total = old.names | new.names, counts[1].sum()
    only = [
        tuple(sorted(names[int(h)] for h in hashes[(counts[i] > 0) & (counts[1 - i] == 0)] if int(h) in names))
        for i in (0, 1)
    ]
    unseen = float(counts[1, counts[0] == 0].sum() / total) if total else math.nan
    shift = float(psi(counts[:1], counts[1:])[0])
    return Change(name, shift, plain.missing, plain.mean, plain.std, only[1], only[0], unseen)
