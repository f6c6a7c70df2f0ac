"""What probably caused a breach: the columns whose drift the model could feel."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class Cause:
    """One column among the causes: how far it drifted, how much the model relies on it, and since when.

    `feature` is its number, `first` when it was first seen bad, `weight` its share of all causes, from 0 to 1.
    """

    feature: int
    effect: float
    importance: float
    first: float
    weight: float


def rank(effect: ArrayLike, importance: ArrayLike, first: ArrayLike | None = None) -> tuple[Cause, ...]:
    """Rank the d columns by effect × importance, the largest first; equal ones by what went bad first.

    effect [d]: adjusted PSI, nan where unknown; importance [d]: shares of the model's importance; first [d]: time of
    the first bad window, any unit, nan or left out where unknown. What is negative or unknown weighs nothing; if all
    do, the weights are 0.
    """
    parts = [np.asarray(v, np.float64) for v in (effect, importance)]
    product = np.prod([np.clip(np.nan_to_num(part), 0.0, None) for part in parts], axis=0)
    when = np.full(len(product), np.nan) if first is None else np.asarray(first, np.float64)
    total = float(product.sum())
    weight = product / total if 0 < total < math.inf else np.zeros(len(product))
    order = np.lexsort([np.nan_to_num(when, nan=np.inf), -product])
    return tuple(Cause(int(i), *(float(v[i]) for v in (*parts, when, weight))) for i in order)
