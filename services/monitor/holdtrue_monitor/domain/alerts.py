"""When an alert is raised and when it is over. Pure: verdicts in, change out.

Two bad windows in a row raise, or one that is bad beyond doubt; three good ones in a row resolve. Windows are ordered
by their end, whenever their verdict came: late labels change the verdict of an old window, not the order. A window
that decides nothing changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Self

RAISE_AFTER, RESOLVE_AFTER = 2, 3
_REMEMBERED = 32


class Verdict(IntEnum):
    """What one window says about one signal."""

    UNDECIDED = 0
    GOOD = 1
    BAD = 2
    SEVERE = 3
    """So bad that one window is enough."""


class Change(StrEnum):
    """What happened to an alert, as subscribers are told."""

    RAISED = "raised"
    UPDATED = "updated"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one window."""

    from_ns: int
    to_ns: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Memory:
    """The latest verdict on each of the last windows that decided something, in their order."""

    windows: tuple[Judged, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, int]]) -> Self:
        """Return the memory that `rows` wrote down."""
        return cls(tuple(Judged(start, end, Verdict(verdict)) for start, end, verdict in rows))

    def rows(self) -> list[tuple[int, int, int]]:
        """Return it as plain numbers."""
        return [(w.from_ns, w.to_ns, int(w.verdict)) for w in self.windows]

    def after(self, judged: Judged) -> "Memory":
        """Return the memory with this verdict instead of an earlier one on the same window."""
        others = [w for w in self.windows if w.to_ns != judged.to_ns]
        decided = [judged] if judged.verdict is not Verdict.UNDECIDED else []
        return Memory(tuple(sorted(others + decided, key=lambda w: w.to_ns)[-_REMEMBERED:]))

    @property
    def run(self) -> tuple[Judged, ...]:
        """The last windows that agree with the very last one on good or bad."""
        if not self.windows:
            return ()
        good = self.windows[-1].verdict is Verdict.GOOD
        run: list[Judged] = []
        for window in reversed(self.windows):
            if (window.verdict is Verdict.GOOD) != good:
                break
            run.append(window)
        return tuple(reversed(run))


def decide(memory: Memory, judged: Judged, *, is_open: bool) -> Change | None:
    """Return what becomes of the alert, given the memory that already holds the verdict just made."""
    run = memory.run
    if not run:
        return None
    if run[-1].verdict is Verdict.GOOD:
        return Change.RESOLVED if is_open and len(run) >= RESOLVE_AFTER else None
    if is_open:
        return Change.UPDATED if run[-1] == judged else None
    severe = any(window.verdict is Verdict.SEVERE for window in run)
    return Change.RAISED if severe or len(run) >= RAISE_AFTER else None
