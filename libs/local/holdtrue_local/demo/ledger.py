"""What really happened, kept outside the platform: the oracle that its figures are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Chapter:
    """One phase of the story: from and to are aligned to windows."""

    name: str
    from_ns: int
    to_ns: int = 0
    """0 while it is open."""
    ids: list[str] = field(default_factory=list[str])
    """Ids of the predictions that were answered."""
    versions: list[int] = field(default_factory=list[int])
    """Model version that answered each."""
    truths: list[float] = field(default_factory=list[float])
    """True P(y = 1 | x) of each."""
    flags: list[bool] = field(default_factory=list[bool])
    """Whether each was flagged."""

    def record(self, ids: Sequence[str], versions: Sequence[int], flags: Sequence[bool], p: Sequence[float]) -> None:
        """Note the answers to one request, row by row."""
        self.ids.extend(ids)
        self.versions.extend(versions)
        self.flags.extend(flags)
        self.truths.extend(p)

    def true_precision(self) -> float:
        """Return the mean true probability of the flagged rows, whichever version answered them; NaN if none."""
        flagged = np.asarray(self.truths)[np.asarray(self.flags, bool)]
        return float(flagged.mean()) if len(flagged) else float("nan")


@dataclass
class Ledger:
    """All chapters, and the calls that were not answered."""

    chapters: list[Chapter] = field(default_factory=list[Chapter])
    sent: int = 0
    """Rows sent."""
    errors: list[str] = field(default_factory=list[str])
    """One text for each row whose call failed."""

    def close(self, ns: int) -> None:
        """End the chapter that is open, if any."""
        if self.chapters and not self.chapters[-1].to_ns:
            self.chapters[-1].to_ns = ns

    @property
    def answered(self) -> int:
        """Rows answered."""
        return sum(len(chapter.ids) for chapter in self.chapters)

    def ids(self) -> set[str]:
        """Return the ids of all answered predictions."""
        return {prediction_id for chapter in self.chapters for prediction_id in chapter.ids}
