"""The fields of many prediction ids' tails at once."""

from dataclasses import dataclass

import numpy as np
from holdtrue_stats.arrays import Ints
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """Fields of n tails, int64 [n] each; layout in holdtrue_contracts.prediction_id."""

    slot: Ints
    segment: Ints
    class_: Ints
    code: Ints


def fields_of(tails: NDArray[np.uint64]) -> Fields:
    """Split the tails [n]."""

    def bits(low: int, width: int) -> Ints:
        return ((tails >> np.uint64(low)) & np.uint64((1 << width) - 1)).astype(np.int64)

    return Fields(slot=bits(34, 14), segment=bits(28, 6), class_=bits(22, 6), code=bits(10, 12))
