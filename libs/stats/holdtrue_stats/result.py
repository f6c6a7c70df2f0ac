"""What every judgement of this library returns: a value, how sure we are, and whether it may be used."""

import math
from dataclasses import dataclass
from enum import StrEnum

NAN = math.nan


class Status(StrEnum):
    """Whether a number may be used."""

    OK = "ok"
    INSUFFICIENT = "insufficient"
    """Too little data for the promised coverage; `Estimate.needed` says how much is missing."""
    INVALID = "invalid"
    """The assumptions behind the number were seen to be false."""
    STALE = "stale"
    """True once, not renewed since."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval.

    `n` is the number of rows behind the value (real, because rows may be weighted), `needed` the rows that are still
    missing where the status is `insufficient`. Value and bounds are nan where nothing can be said.
    """

    value: float
    lower: float
    upper: float
    n: float
    status: Status = Status.OK
    needed: int = 0

    @property
    def ok(self) -> bool:
        """True if the number may be used."""
        return self.status is Status.OK

    def __str__(self) -> str:
        """Read like `0.881 [0.861, 0.899] n=1043`."""
        note = "" if self.ok else f" {self.status}" + (f" ({self.needed} more needed)" if self.needed else "")
        return f"{self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}] n={self.n:g}{note}"


def insufficient(n: float, needed: int) -> Estimate:
    """Return the estimate that says nothing yet: `needed` more rows are missing."""
    return Estimate(NAN, NAN, NAN, n, Status.INSUFFICIENT, needed)
