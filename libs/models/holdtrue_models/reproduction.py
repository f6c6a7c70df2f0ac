"""Whether a model can be made again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdtrue_models.manifest import Manifest

EQUAL = 1e-9
"""How far answers to the check rows may be for two models to be equal, in units of the manifest's scale."""
ERASURE_EPOCH = "erasure epoch"
"""The pin that counts erasures in the dataset: what was erased cannot be trained on again."""


class Verdict(Enum):
    """How a model that was made again compares with the recorded one; the value is the exit code of a command."""

    IDENTICAL = "identical", 0
    EQUAL = "equal", 0
    DIFFERENT = "different", 1
    IMPOSSIBLE = "impossible", 2

    @property
    def exit_code(self) -> int:
        """0 if it is the same model, 1 if it is another, 2 if it cannot be made."""
        return self.value[1]

    def __str__(self) -> str:
        """Return the word."""
        return self.value[0]


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The verdict and, unless the models are identical, what stands behind it."""

    verdict: Verdict
    reason: str = ""


def reproduce(recorded: Manifest, pins: Mapping[str, str], rebuild: Callable[[], Manifest]) -> Reproduction:
    """Make a model again and compare it with its record.

    `pins` are those that hold now; `rebuild` trains with the recorded recipe, rows and seed and returns the manifest of
    what came out. It is not called if rows have been erased since.
    """
    before, now = recorded.pins.get(ERASURE_EPOCH, ""), pins.get(ERASURE_EPOCH, "")
    if before != now:
        reason = f"rows were erased from the dataset since: {ERASURE_EPOCH} {before or 'none'}, now {now or 'none'}"
        return Reproduction(Verdict.IMPOSSIBLE, reason)
    return compare(recorded, rebuild())


def compare(recorded: Manifest, again: Manifest) -> Reproduction:
    """Compare two manifests of what should be one model."""
    if recorded.canonical_digest and recorded.canonical_digest == again.canonical_digest:
        return Reproduction(Verdict.IDENTICAL)
    apart = _apart(recorded, again)
    if apart <= EQUAL * recorded.scale:
        return Reproduction(Verdict.EQUAL, f"the answers to the check rows are {apart:.1e} apart at most")
    return Reproduction(Verdict.DIFFERENT, _first_difference(recorded.pins, again.pins))


def _apart(recorded: Manifest, again: Manifest) -> float:
    """Return the largest difference of the answers to the same check rows; infinite if they are not the same rows."""
    first, second = recorded.check_rows, again.check_rows
    if first.inputs != second.inputs or not first.inputs.rows or recorded.signature != again.signature:
        return np.inf
    expected, found = first.expected.array(), second.expected.array()
    if expected.shape != found.shape:
        return np.inf
    return float(np.abs(expected.astype(np.float64) - found).max())


def _first_difference(recorded: Mapping[str, str], again: Mapping[str, str]) -> str:
    for name in [*recorded, *(name for name in again if name not in recorded)]:
        before, now = recorded.get(name, "nothing"), again.get(name, "nothing")
        if before != now:
            return f"{name} was {before}, now it is {now}"
    return "nothing that is pinned differs; the estimator does not repeat itself"
