"""The rules on single columns: from a bound, a pattern or a list of values to a function on an Arrow column.

Each passes nulls, of which `nullable` judges. A figure of the whole column (smallest, largest) decides where it can, so
that a clean column costs one pass and no mask.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from holdtrue_lake.faults import Code
from holdtrue_lake.rules_yaml import Problem
from holdtrue_lake.views import Check, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdtrue_lake.payload import Mask
    from holdtrue_lake.rules import ColumnRules, Number
    from holdtrue_lake.views import View


def column_checks(name: str, column: ColumnRules, kind: pa.DataType, problems: list[Problem]) -> Iterator[Check]:
    """Compile the rules on one column of a type; what does not fit it is added to `problems`."""
    known = set(column.__struct_fields__) - {"type", "required", "nullable", "pii"}
    for key in (key for key in column.__struct_fields__ if key in known):
        bound = getattr(column, key)
        if bound is None or bound is False:
            continue
        try:
            yield _BUILDERS[key](name, bound, kind)
        except (ValueError, OverflowError, pa.ArrowException) as error:
            problems.append(Problem(0, f"columns.{name}.{key}", str(error).split("\n", 1)[0]))


def _minimum(name: str, bound: Number, kind: pa.DataType) -> Check:
    limit = _limit(bound, kind)
    broken = partial(_beyond, name, pc.less, limit, lambda extent, value: extent[0] >= value)
    return Check(f"{name}.min", Code.OUT_OF_RANGE, (name,), f"at least {bound}", broken)


def _maximum(name: str, bound: Number, kind: pa.DataType) -> Check:
    limit = _limit(bound, kind)
    broken = partial(_beyond, name, pc.greater, limit, lambda extent, value: extent[1] <= value)
    return Check(f"{name}.max", Code.OUT_OF_RANGE, (name,), f"at most {bound}", broken)


def _beyond(
    name: str, compare: Callable[..., Any], limit: pa.Scalar, inside: Callable[[Any, Any], bool], view: View
) -> Mask | None:
    values, extent = view.values(name), view.extent(name)
    if extent is not None and inside(extent, limit.as_py()):
        return None
    if pa.types.is_integer(values.type) and pa.types.is_floating(limit.type):  # Arrow would refuse what it must round
        values = values.cast(limit.type, safe=False)
    return some(compare(values, limit))


def _limit(bound: Number, kind: pa.DataType) -> pa.Scalar:
    """Return the bound in the column's own type: beside a float32 column it is the nearest float32."""
    if pa.types.is_floating(kind):
        if not np.isfinite(float(bound)):
            raise ValueError(f"expected a finite number, got {bound}")
        return pa.scalar(float(bound), pa.float64()).cast(kind, safe=False)
    if pa.types.is_integer(kind):
        return pa.scalar(float(bound)) if isinstance(bound, float) else pa.scalar(bound, kind)
    raise ValueError(f"only columns of numbers have bounds, this one is {kind}")


def _length(name: str, bound: int, kind: pa.DataType, *, least: bool) -> Check:
    _text(kind)
    compare = pc.less if least else pc.greater
    key, words = ("min_length", "at least") if least else ("max_length", "at most")

    broken = partial(_by_value, name, lambda texts: compare(pc.utf8_length(texts), bound))
    return Check(f"{name}.{key}", Code.OUT_OF_RANGE, (name,), f"{words} {bound} characters", broken)


def _regex(name: str, pattern: str, kind: pa.DataType) -> Check:
    _text(kind)
    whole = rf"\A(?:{pattern})\z"
    pc.match_substring_regex(pa.array([""]), pattern)  # raises here, for the pattern as it was written
    pc.match_substring_regex(pa.array([""]), whole)

    broken = partial(_by_value, name, lambda texts: pc.invert(pc.match_substring_regex(texts, whole)))
    return Check(f"{name}.regex", Code.NOT_ALLOWED, (name,), f"a text that matches {pattern} as a whole", broken)


def _one_of(name: str, allowed: list[str | int], kind: pa.DataType) -> Check:
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f"only columns of texts or whole numbers have listed values, this one is {kind}")
    wrong = [value for value in allowed if isinstance(value, int) != pa.types.is_integer(kind)]
    if wrong:
        raise ValueError(f"expected values of a column of {kind}, got {wrong[0]!r}")
    values = pa.array(allowed, kind)

    expected = "one of " + ", ".join(repr(value) for value in allowed[:20])
    broken = partial(_by_value, name, partial(_not_among, values))
    return Check(f"{name}.one_of", Code.NOT_ALLOWED, (name,), expected, broken)


def _not_among(allowed: pa.Array, values: pa.Array) -> pa.Array:
    outside = pc.invert(pc.is_in(values, value_set=allowed))
    return outside if values.null_count == 0 else pc.and_(outside, values.is_valid())


def _by_value(name: str, breaks: Callable[[pa.Array], pa.Array], view: View) -> Mask | None:
    """Judge the different values first, where they are few: mostly none of them breaks the rule."""
    few = view.few(name)
    if few is not None and not breaks(few).true_count:
        return None
    return some(breaks(view.values(name)))


def _one_column_unique(name: str, _bound: bool, _kind: pa.DataType) -> Check:  # noqa: FBT001
    return unique(f"{name}.unique", (name,))


def unique(rule: str, columns: tuple[str, ...]) -> Check:
    """No earlier record, of the candidates, has the same values in these columns."""
    expected = "a value" if len(columns) == 1 else f"values of {', '.join(columns)}"

    def broken(view: View) -> Mask | None:
        return repeated([view.values(name) for name in columns], view.candidates)

    return Check(rule, Code.DUPLICATE, columns, f"{expected} that no earlier record of the batch has", broken)


def repeated(columns: list[pa.Array], among: Mask) -> Mask | None:
    """Rows that have, in all columns, the values of an earlier row `among` the marked ones; None if there are none.

    A null is like nothing else, not even like another null.
    """
    if len(columns) == 1 and _all_differ(columns[0]):
        return None
    codes = np.zeros(len(among), np.int64)
    known = among.copy()
    distinct = 1
    for column in columns:
        encoded = _plus_zero(column).dictionary_encode()
        known &= column.is_valid().to_numpy(zero_copy_only=False)
        codes = codes * max(1, len(encoded.dictionary)) + pc.fill_null(encoded.indices, 0).to_numpy()
        if distinct > 1:
            again = pa.array(codes).dictionary_encode()
            codes, distinct = again.indices.to_numpy().astype(np.int64), len(again.dictionary)
        else:
            distinct = len(encoded.dictionary)
    return _later(codes, known)


def _all_differ(column: pa.Array) -> bool:
    """Tell by sorting, which is many times faster than encoding, for numbers without nulls."""
    if column.null_count or not pa.types.is_integer(column.type):
        return False
    ordered = np.sort(column.to_numpy())
    return bool((ordered[1:] != ordered[:-1]).all())


def _plus_zero(column: pa.Array) -> pa.Array:
    """Make -0.0 the 0.0 that it equals."""
    return pc.add(column, pa.scalar(0.0, column.type)) if pa.types.is_floating(column.type) else column


def _later(codes: np.ndarray, known: Mask) -> Mask | None:
    """Rows whose code came before, among the known."""
    rows = np.flatnonzero(known)
    _, first = np.unique(codes[rows], return_index=True)
    if len(first) == len(rows):
        return None
    later = known.copy()
    later[rows[first]] = False
    return later


def _text(kind: pa.DataType) -> None:
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f"only columns of texts have it, this one is {kind}")


_BUILDERS: dict[str, Callable[[str, Any, pa.DataType], Check]] = {
    "min": _minimum,
    "max": _maximum,
    "min_length": partial(_length, least=True),
    "max_length": partial(_length, least=False),
    "regex": _regex,
    "one_of": _one_of,
    "unique": _one_column_unique,
}
