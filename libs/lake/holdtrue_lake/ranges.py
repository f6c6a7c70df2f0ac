"""Sets of commit numbers, kept as ranges: what a version is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Ranges:
    """A set of commits as its shortest list of ranges (first and last, both included), in order.

    Make it by `Ranges.of`. Iterating gives the ranges.
    """

    spans: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def of(spans: Iterable[tuple[int, int]]) -> Ranges:
        """Union of ranges in any order; raises ValueError where one ends before it starts or is negative."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted(spans):
            if not 0 <= first <= last:
                raise ValueError(f"{first} to {last} is no range of commits: expected 0 <= first <= last")
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return Ranges(tuple(merged))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Ranges in order."""
        return iter(self.spans)

    def __bool__(self) -> bool:
        """Tell whether there is any commit."""
        return bool(self.spans)

    def __contains__(self, commit: int) -> bool:
        """Tell whether a commit is in it."""
        return any(first <= commit <= last for first, last in self.spans)

    def __or__(self, other: Ranges) -> Ranges:
        """Commits of either."""
        return Ranges.of([*self.spans, *other.spans])

    def __sub__(self, other: Ranges) -> Ranges:
        """Commits of this one that are not in the other."""
        return Ranges(tuple(rest for span in self.spans for rest in _without(span, other)))

    def __and__(self, other: Ranges) -> Ranges:
        """Commits of both."""
        return self - (self - other)

    def __str__(self) -> str:
        """Ranges for a person: `0-49, 60`."""
        return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in self.spans) or "none"

    def numbers(self) -> Iterator[int]:
        """Every commit, in order."""
        for first, last in self.spans:
            yield from range(first, last + 1)


def _without(span: tuple[int, int], other: Ranges) -> Iterator[tuple[int, int]]:
    start, last = span
    for first, end in other:
        if first > last:
            break
        if first > start:
            yield start, first - 1
        start = max(start, end + 1)
    if start <= last:
        yield start, last
