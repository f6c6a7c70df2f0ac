"""What every judgement of this library returns: a value, how sure we are, and whether it may be used."""

import math
from dataclasses import dataclass
from enum import StrEnum

NAN = math.nan


class Status(StrEnum):
    """Whether a number may be used."""

    OK = "ok"
    INSUFFICIENT = "insufficient"
    """Too little data for the promised coverage; `needed_n` says how much is missing."""
    INVALID = "invalid"
    """The assumptions behind the number were seen to be false, or what came in is no number."""
    STALE = "stale"
    """True once, not renewed since."""


@dataclass(frozen=True, slots=True, repr=False)
class Estimate:
    """A value with its interval.

    `n` is the number of rows behind the value (real, because rows may be weighted), `needed_n` the rows that are still
    missing where the status is `insufficient`, `reason` what a person should know about a status that is not `ok`.
    Value and bounds are nan where nothing can be said.
    """

    value: float
    lower: float
    upper: float
    n: float
    status: Status = Status.OK
    needed_n: int = 0
    reason: str = ""

    @property
    def ok(self) -> bool:
        """True if the number may be used."""
        return self.status is Status.OK

    def __str__(self) -> str:
        """Read like `0.881 [0.861, 0.899] n=1043`."""
        more = f"{self.needed_n} more needed" if self.needed_n else ""
        why = "; ".join(part for part in (more, self.reason) if part)
        note = "" if self.ok else f" {self.status}" + (f" ({why})" if why else "")
        return f"{self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}] n={self.n:g}{note}"

    def __repr__(self) -> str:
        """Read like `Estimate(0.881 [0.861, 0.899] n=1043)`."""
        return f"Estimate({self})"


def insufficient(n: float, needed_n: int, reason: str = "") -> Estimate:
    """Return the estimate that says nothing yet: `needed_n` more rows are missing."""
    return Estimate(NAN, NAN, NAN, n, Status.INSUFFICIENT, needed_n, reason)


def invalid(n: float, reason: str) -> Estimate:
    """Return the estimate that cannot be made of what came in."""
    return Estimate(NAN, NAN, NAN, n, Status.INVALID, 0, reason)
