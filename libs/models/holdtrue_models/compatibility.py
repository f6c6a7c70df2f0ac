"""What callers of one version of a model would break on with another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdtrue_models.signature import Column, Signature

_WIDENS = {("int64", "float32"), ("bool", "float32"), ("bool", "int64")}
"""Numbers that may be sent where others were: from, to."""


def breaks(before: Signature, after: Signature) -> list[str]:
    """Return what a caller who fits `before` breaks on when `after` answers; empty if they need not care."""
    return [*_inputs(before, after), *_answers(before, after)]


def _inputs(before: Signature, after: Signature) -> list[str]:
    old = {column.name: column for column in before.columns}
    new = {column.name: column for column in after.columns}
    found = [f"column {name!r} is gone; what is sent for it is refused" for name in old if name not in new]
    found += [f"column {name!r} is new; requests without it are refused" for name in new if name not in old]
    for name in old.keys() & new.keys():
        found += _column(old[name], new[name])
    if old.keys() == new.keys() and before.names != after.names and before.numeric:
        found.append("the columns have another order; rows that are sent as one matrix would be read wrongly")
    return sorted(found)


def _column(before: Column, after: Column) -> list[str]:
    found: list[str] = []
    if before.dtype != after.dtype and (before.dtype, after.dtype) not in _WIDENS:
        found.append(f"column {before.name!r} is {after.dtype}, it was {before.dtype}")
    if before.unit != after.unit:
        found.append(f"column {before.name!r} has the unit {after.unit!r}, it had {before.unit!r}")
    gone = [category for category in before.categories if category not in after.categories]
    if gone:
        found.append(f"column {before.name!r} does not know the categories {gone} any more")
    return found


def _answers(before: Signature, after: Signature) -> list[str]:
    found: list[str] = []
    if before.task != after.task:
        found.append(f"the task is {after.task}, it was {before.task}")
    if before.classes != after.classes:
        found.append(f"the classes are {list(after.classes)}, they were {list(before.classes)}")
    if before.positive_class != after.positive_class:
        found.append(f"the positive class is {after.positive_class!r}, it was {before.positive_class!r}")
    new = {output.name: output for output in after.outputs}
    found += [
        f"the output {output.name!r} is gone or has another type or shape"
        for output in before.outputs
        if new.get(output.name) != output
    ]
    return found
