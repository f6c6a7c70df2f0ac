"""What a batch or version is expected to be like as a whole.

Nothing here refuses a row: what is not as expected makes a version suspect, with a reason for each expectation that it
breaks. Where a figure cannot be had, because there are no values, the expectation is broken too; where it needs a
reference and there is none yet, it is left out and said to be `unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from holdtrue_stats.divergence import psi_noise

from holdtrue_lake import rules as kinds
from holdtrue_lake.column_checks import repeated
from holdtrue_lake.profile import observe
from holdtrue_lake.profile_diff import compare
from holdtrue_lake.rules import duration
from holdtrue_lake.rules_yaml import Problem, RulesInvalid
from holdtrue_lake.times import micros_of
from holdtrue_lake.views import MOST_ROWS_NAMED, View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from holdtrue_lake.payload import Mask
    from holdtrue_lake.profile import Profile
    from holdtrue_lake.profile_diff import Change
    from holdtrue_lake.rules import Expectation, Rules

Verdict = Literal["met", "broken", "unknown"]


@dataclass(frozen=True, slots=True)
class Reason:
    """What one expectation found: `rows` are the first rows that are to blame, where single ones are, `count` all."""

    rule: str
    verdict: Verdict
    column: str
    expected: str
    got: str
    count: int = 0
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Assessment:
    """What all expectations found, in their order."""

    reasons: tuple[Reason, ...]

    @property
    def suspect(self) -> bool:
        """Whether any expectation is broken."""
        return any(reason.verdict == "broken" for reason in self.reasons)


class _Batch:
    """A table and its reference; what several expectations need is made once."""

    def __init__(self, table: pa.Table, now: datetime, reference: Profile | None) -> None:
        self.table, self.now, self.reference = table, now, reference
        self.view = View(table.num_rows, table.column)
        self._compared: tuple[Profile, dict[str, Change]] | None = None

    def change(self, column: str) -> tuple[Change, float] | None:
        """How far the column is from the reference, and the PSI that sampling alone gives; None: no reference."""
        if self.reference is None or column not in self.reference.layout.names:
            return None
        if self._compared is None:
            current = observe(self.table.select(self.reference.layout.names), self.reference.layout)
            self._compared = current, {change.column: change for change in compare(self.reference, current)}
        current, changes = self._compared
        return changes[column], _noise(self.reference, current, column)


def assess(rules: Rules, table: pa.Table, now: datetime, reference: Profile | None = None) -> Assessment:
    """Apply the expectations to a table of accepted rows with `_event_time`.

    `reference` is a profile whose layout has only columns of the table. Raises RulesInvalid where expectations name
    columns that the table does not have or that have no such figure.
    """
    problems = expectation_problems(rules, table.schema)
    if problems:
        raise RulesInvalid(problems)
    batch = _Batch(table, now, reference)
    return Assessment(tuple(_ASSESS[type(rule)](rule, batch) for rule in rules.expectations))


def expectation_problems(rules: Rules, schema: pa.Schema) -> list[Problem]:
    """Return what bars the expectations from being applied to a table of this schema."""
    return [
        Problem(0, f"expectations[{index}].column", problem)
        for index, rule in enumerate(rules.expectations)
        for name in _columns(rule)
        if (problem := _unfit(rule, name, schema))
    ]


def _unfit(rule: Expectation, name: str, schema: pa.Schema) -> str:
    if name not in schema.names:
        return f"there is no column {name!r}; there are {', '.join(schema.names[:20])}"
    kind = schema.field(name).type
    number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    if isinstance(rule, (kinds.Range, kinds.Mean, kinds.Std)) and not number:
        return f"only columns of numbers have a range, mean and std, {name!r} is {kind}"
    if pa.types.is_binary(kind) and not isinstance(rule, kinds.NullRate):
        return f"column {name!r} is personal and encrypted: only its share of nulls can be told"
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
    if isinstance(rule, kinds.Categories) and not text:
        return f"only columns of texts have categories, {name!r} is {kind}"
    return ""


def _columns(rule: Expectation) -> list[str]:
    match rule:
        case kinds.DuplicateRate():
            return rule.columns
        case kinds.Volume():
            return []
        case kinds.Freshness():
            return ["_event_time"]
        case _:
            return [rule.column]


def _null_rate(rule: kinds.NullRate, batch: _Batch) -> Reason:
    null = batch.view.values(rule.column).is_null().to_numpy(zero_copy_only=False)
    return _share(rule.id, rule.column, "null", null, rule.max)


def _range(rule: kinds.Range, batch: _Batch) -> Reason:
    values = _numbers(batch, rule.column)
    low = -np.inf if rule.min is None else rule.min
    high = np.inf if rule.max is None else rule.max
    expected = f"all values {_between(rule.min, rule.max)}"
    if not np.isfinite(values).any():
        return Reason(rule.id, "broken", rule.column, expected, "no values")
    outside = (values < low) | (values > high)
    got = f"values from {np.nanmin(values):g} to {np.nanmax(values):g}"
    return _named(rule.id, rule.column, expected, got, outside, broken=bool(outside.any()))


def _moment(rule: kinds.Mean | kinds.Std, batch: _Batch) -> Reason:
    name = "mean" if isinstance(rule, kinds.Mean) else "std"
    values = _numbers(batch, rule.column)
    expected = f"a {name} {_between(rule.min, rule.max)}"
    if np.isnan(values).all():
        return Reason(rule.id, "broken", rule.column, expected, "no values")
    there: Any = values[~np.isnan(values)]
    found = float(there.mean() if name == "mean" else there.std())
    inside = (rule.min is None or found >= rule.min) and (rule.max is None or found <= rule.max)
    return Reason(rule.id, "met" if inside else "broken", rule.column, expected, f"{found:g}")


def _categories(rule: kinds.Categories, batch: _Batch) -> Reason:
    if rule.known is not None:
        values = batch.view.values(rule.column)
        known = pc.is_in(values, value_set=pa.array(rule.known, values.type)).to_numpy(zero_copy_only=False)
        there = values.is_valid().to_numpy(zero_copy_only=False)
        return _share(rule.id, rule.column, "not among the known values", there & ~known, rule.max_unseen, there)
    change = batch.change(rule.column)
    expected = f"at most {rule.max_unseen:.2%} of the values new since the reference"
    if change is None or np.isnan(change[0].unseen):
        return Reason(rule.id, "unknown", rule.column, expected, "no categories to compare with")
    unseen, names = change[0].unseen, ", ".join(map(repr, change[0].appeared[:20]))
    got = f"{unseen:.2%}" + (f", among them {names}" if names else "")
    return Reason(rule.id, "met" if unseen <= rule.max_unseen else "broken", rule.column, expected, got)


def _psi(rule: kinds.Psi, batch: _Batch) -> Reason:
    change = batch.change(rule.column)
    expected = f"a PSI against the reference of at most {rule.max:g}"
    if change is None:
        return Reason(rule.id, "unknown", rule.column, expected, "no reference")
    if np.isnan(change[0].psi):
        empty = batch.view.values(rule.column).null_count == batch.table.num_rows
        return Reason(rule.id, "broken" if empty else "unknown", rule.column, expected, "no values to compare")
    shift = change[0].psi - change[1]
    return Reason(rule.id, "met" if shift <= rule.max else "broken", rule.column, expected, f"{shift:.3f}")


def _volume(rule: kinds.Volume, batch: _Batch) -> Reason:
    rows = batch.table.num_rows
    inside = (rule.min is None or rows >= rule.min) and (rule.max is None or rows <= rule.max)
    return Reason(rule.id, "met" if inside else "broken", "", f"rows {_between(rule.min, rule.max)}", str(rows))


def _freshness(rule: kinds.Freshness, batch: _Batch) -> Reason:
    expected = f"a latest event at most {rule.max_age} old"
    latest: Any = pc.max(batch.table.column("_event_time")).as_py()
    if latest is None:
        return Reason(rule.id, "broken", "", expected, "no events")
    fresh = micros_of(latest) >= micros_of(batch.now - duration(rule.max_age))
    return Reason(rule.id, "met" if fresh else "broken", "", expected, f"one of {latest.isoformat()}")


def _duplicate_rate(rule: kinds.DuplicateRate, batch: _Batch) -> Reason:
    everywhere = np.ones(batch.table.num_rows, np.bool_)
    rows = repeated([batch.view.values(name) for name in rule.columns], everywhere)
    again = np.zeros_like(everywhere) if rows is None else rows
    column = rule.columns[0] if len(rule.columns) == 1 else ""
    return _share(rule.id, column, f"equal to an earlier row in {', '.join(rule.columns)}", again, rule.max)


def _share(  # noqa: PLR0913, PLR0917
    rule: str, column: str, what: str, rows: Mask, most: float, among: Mask | None = None
) -> Reason:
    total = len(rows) if among is None else int(among.sum())
    share = float(rows.sum() / total) if total else 0.0
    return _named(rule, column, f"at most {most:.2%} {what}", f"{share:.2%}", rows, broken=share > most or not total)


def _named(  # noqa: PLR0913
    rule: str, column: str, expected: str, got: str, rows: Mask, *, broken: bool
) -> Reason:
    where = np.flatnonzero(rows)
    first = tuple(where[:MOST_ROWS_NAMED].tolist())
    return Reason(rule, "broken" if broken else "met", column, expected, got, len(where), first)


def _numbers(batch: _Batch, column: str) -> Any:  # noqa: ANN401  numpy
    return batch.view.values(column).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _between(low: float | None, high: float | None) -> str:
    parts = [f"at least {low}"] * (low is not None) + [f"at most {high}"] * (high is not None)
    return " and ".join(parts) or "of any size"


def _noise(reference: Profile, current: Profile, column: str) -> float:
    """PSI that sampling alone gives a column of numbers; of categories it is not known, and 0."""
    numbers = reference.layout.of_kind("number")
    if column not in numbers:
        return 0.0
    place = numbers.index(column)
    sides = [profile.state().hist[place : place + 1, :-1] for profile in (reference, current)]
    return float(psi_noise(*sides)[0])


_ASSESS: Mapping[type, Callable[[Any, _Batch], Reason]] = {
    kinds.NullRate: _null_rate,
    kinds.Range: _range,
    kinds.Mean: _moment,
    kinds.Std: _moment,
    kinds.Categories: _categories,
    kinds.Psi: _psi,
    kinds.Volume: _volume,
    kinds.Freshness: _freshness,
    kinds.DuplicateRate: _duplicate_rate,
}
