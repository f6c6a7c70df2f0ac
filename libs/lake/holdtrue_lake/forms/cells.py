"""Cells of text as columns of a dtype, each cell judged by itself."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from holdtrue_lake.forms.form import TIME
from holdtrue_lake.payload import Columns, fitted
from holdtrue_lake.times import event_times
from holdtrue_lake.views import one_array, true

if TYPE_CHECKING:
    from holdtrue_lake.forms.dialect import Dialect
    from holdtrue_lake.payload import Mask

_NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
_WHOLE = r"^[-+]?\d{1,18}$"


def columns_of_text(table: pa.Table, dialect: Dialect) -> Columns:
    """Columns of a table of texts; raw bytes of a record are its cells, separated as in the file."""
    everywhere = np.ones(table.num_rows, np.bool_)

    def typed(name: str, dtype: str) -> tuple[pa.Array, Mask]:
        return typed_cells(one_array(table.column(name)), dtype, dialect, dialect.times.get(name, ""))

    def raw(row: int) -> bytes:
        cells = [column[row].as_py() or "" for column in table.columns]
        return dialect.separator.join(cells).encode()

    return Columns(table.num_rows, frozenset(table.column_names), lambda _: everywhere, typed, table.column, raw)


def typed_cells(cells: pa.Array, dtype: str, dialect: Dialect, time_format: str = "") -> tuple[pa.Array, Mask]:
    """Return a column as a dtype's working type, and the mask of cells that do not fit."""
    if time_format:
        times, wrong = _times(_trimmed(cells, dialect), time_format, dialect.zone)
        return time_as(times, dtype), wrong
    if dtype == "string":
        return cells, np.zeros(len(cells), np.bool_)
    trimmed = _trimmed(cells, dialect)
    if dtype == "bool":
        return _truths(trimmed, dialect)
    return _numbers(trimmed, dtype, dialect)


def time_cells(cells: pa.Array, dialect: Dialect, time_format: str) -> tuple[pa.Array, Mask]:
    """Return a column as times in UTC: of the format, or else seconds since 1970 or ISO 8601; and what fits neither."""
    trimmed = _trimmed(cells, dialect)
    if time_format:
        return _times(trimmed, time_format, dialect.zone)
    seconds, no_number = _numbers(trimmed, "float32", dialect)
    micros, missing, wrong = event_times(trimmed.to_pylist() if no_number.any() else pa.chunked_array([seconds]))
    return pa.array(micros, mask=missing | wrong).cast(TIME), wrong


def _trimmed(cells: pa.Array, dialect: Dialect) -> pa.Array:
    plain = pc.utf8_trim_whitespace(cells)
    nothing = pc.is_in(plain, value_set=pa.array(dialect.nulls, pa.string()))
    return pc.if_else(nothing, pa.scalar(None, pa.string()), plain)


def _truths(cells: pa.Array, dialect: Dialect) -> tuple[pa.Array, Mask]:
    yes, no = (pc.is_in(cells, value_set=pa.array(words, pa.string())) for words in (dialect.yes, dialect.no))
    wrong = true(cells.is_valid()) & ~true(pc.or_(yes, no))
    return pc.if_else(pc.or_(yes, no), yes, pa.scalar(None, pa.bool_())), wrong


def _numbers(cells: pa.Array, dtype: str, dialect: Dialect) -> tuple[pa.Array, Mask]:
    """Whole numbers keep all their digits; others are the nearest float64."""
    cells, garbled = _pointed(cells, dialect)
    if dtype == "int64" and true(pc.match_substring_regex(cells, _WHOLE)).sum() == len(cells) - cells.null_count:
        return pc.cast(_unsigned(cells), pa.int64()), garbled
    wrong = true(pc.invert(pc.match_substring_regex(cells, _NUMBER))) | garbled
    numbers = pc.if_else(pa.array(wrong), pa.scalar(None, pa.string()), _unsigned(cells))
    if dtype == "float32":
        return pc.cast(numbers, pa.float64()), wrong
    whole = true(pc.match_substring_regex(numbers, r"^-?\d+$"))
    exact, too_large = _exact(pc.if_else(pa.array(whole), numbers, pa.scalar(None, pa.string())))
    rounded, uneven = fitted(pc.cast(numbers, pa.float64()), "int64")
    uneven &= ~whole
    return pc.if_else(pa.array(whole), exact, rounded), wrong | too_large | uneven


def _exact(texts: pa.Array) -> tuple[pa.Array, Mask]:
    """Whole numbers of any length as int64, and the mask of those that are beyond it."""
    values = [None if text is None else int(text) for text in texts.to_pylist()]
    wrong = np.fromiter((v is not None and not -(2**63) <= v < 2**63 for v in values), np.bool_, len(values))
    kept = [None if bad else value for value, bad in zip(values, wrong.tolist(), strict=True)]
    return pa.array(kept, pa.int64()), wrong


def _unsigned(cells: pa.Array) -> pa.Array:
    """Arrow does not read a plus sign."""
    return pc.replace_substring_regex(cells, r"^\+", "")


def _pointed(cells: pa.Array, dialect: Dialect) -> tuple[pa.Array, Mask]:
    """Numbers with a decimal point and without marks between thousands; where these stand wrong, a mask."""
    garbled = np.zeros(len(cells), np.bool_)
    if dialect.thousands:
        mark, point = (f"\\x{{{ord(each):x}}}" for each in (dialect.thousands, dialect.decimal))
        grouped = rf"^[-+]?(\d+|\d{{1,3}}({mark}\d{{3}})+)({point}\d*)?([eE][-+]?\d+)?$"
        garbled = true(pc.invert(pc.match_substring_regex(cells, grouped)))
        cells = pc.replace_substring(cells, dialect.thousands, "")
    if dialect.decimal != ".":
        garbled |= true(pc.match_substring(cells, "."))
        cells = pc.replace_substring(cells, dialect.decimal, ".")
    return cells, garbled


def _times(cells: pa.Array, pattern: str, zone: str) -> tuple[pa.Array, Mask]:
    """Times in UTC; wrong are texts of another form, and local times that a clock shows twice or never."""
    local = pc.strptime(cells, format=pattern, unit="us", error_is_null=True)
    wrong = true(cells.is_valid()) & true(local.is_null()) | _impossible(cells, local, pattern)
    if "%z" in pattern:
        return local.cast(TIME), wrong
    early, late = (
        pc.assume_timezone(local, zone, ambiguous=side, nonexistent=side).cast(TIME) for side in ("earliest", "latest")
    )
    return early, wrong | true(pc.not_equal(early, late))


def _impossible(cells: pa.Array, local: pa.Array, pattern: str) -> Mask:
    """Days that no calendar has: Arrow makes 3 March of 30 February. Python does not, but takes a cell at a time."""
    doubtful = true(pc.not_equal(pc.strftime(local, format=pattern), cells))
    for row in np.flatnonzero(doubtful).tolist():
        try:
            datetime.strptime(cells[row].as_py(), pattern)  # noqa: DTZ007  only whether it is one
        except ValueError:
            continue
        doubtful[row] = False
    return doubtful


def time_as(times: pa.Array, dtype: str) -> pa.Array:
    """Times as values of a dtype: ISO 8601 text, or seconds since 1970."""
    if dtype == "string":
        whole = (
            not pc.any(pc.not_equal(pc.microsecond(times), 0)).as_py()
            and not pc.any(pc.not_equal(pc.millisecond(times), 0)).as_py()
        )
        return pc.strftime(times.cast(pa.timestamp("s" if whole else "us", "UTC")), format="%Y-%m-%dT%H:%M:%SZ")
    micros = times.cast(pa.int64())
    return pc.divide(micros, 1_000_000) if dtype == "int64" else pc.divide(pc.cast(micros, pa.float64()), 1e6)
