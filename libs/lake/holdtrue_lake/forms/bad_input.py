"""What is wrong with what a person gave, and where."""

from __future__ import annotations

from dataclasses import dataclass

MOST_NAMED = 20
"""Faults that one error describes; it counts all of the rows that were looked at."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is: a file or another source, a line (or row) of it, a column; what is unknown is left out."""

    source: str
    line: int = 0
    column: str = ""
    unit: str = "line"

    def __str__(self) -> str:
        """Name it for a person."""
        line = f", {self.unit} {self.line}" if self.line else ""
        column = f", column {self.column}" if self.column else ""
        return f"{self.source}{line}{column}"


@dataclass(frozen=True, slots=True)
class Bad:
    """One thing that is wrong."""

    place: Place
    expected: str
    got: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.place}: expected {self.expected}, got {self.got}"


class BadInput(Exception):
    """The source cannot be read as rows of the dataset; `faults` say where (the first 20), `count` how many there are.

    Rows before the part with the faults have been given out and are good.
    """

    def __init__(self, faults: list[Bad], count: int = 0) -> None:
        """Tell the faults, one a line."""
        self.faults = tuple(faults[:MOST_NAMED])
        self.count = max(count, len(faults))
        more = self.count - len(self.faults)
        lines = [str(fault) for fault in self.faults] + ([f"and {more:,} more"] if more else [])
        super().__init__("\n".join(lines))

    @classmethod
    def one(cls, place: Place, expected: str, got: str) -> BadInput:
        """Make the error of a single fault."""
        return cls([Bad(place, expected, got)])


def some(names: list[str]) -> str:
    """Names for a message, the first ten of them."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")  # noqa: PLR2004
