"""How a text file with separated values is written, and finding that out from its beginning."""

from __future__ import annotations

import codecs
import csv
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from holdtrue_lake.forms.bad_input import BadInput, Place

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

SEPARATORS = ",;\t|"
_MARKS = (  # longer ones first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GUESSES = ("cp1252", "latin-1")
_LINES = 50
_COMMA = re.compile(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*")


@dataclass(frozen=True)
class Dialect:
    """How cells are separated and written.

    `times` gives the format of columns with dates and times, as of strptime, for example `%d.%m.%Y`; their values are
    read as times of `zone` and become UTC. In columns of numbers, times and truth values each of `nulls` is a missing
    value; in columns of text only the empty cell is: NA is a country's code and somebody's name.
    """

    separator: str = ","
    quote: str = '"'
    escape: str = ""
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str = ""
    nulls: tuple[str, ...] = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-")
    yes: tuple[str, ...] = ("true", "True", "TRUE", "1")
    no: tuple[str, ...] = ("false", "False", "FALSE", "0")
    times: Mapping[str, str] = field(default_factory=dict[str, str])
    zone: str = "UTC"
    skip: int = 0
    """Lines before the header."""

    def header(self, beginning: str) -> list[str]:
        """Names of the columns, from a file's beginning."""
        return next((cells for cells in self.records(beginning) if cells), list[str]())

    def records(self, beginning: str) -> list[list[str]]:
        """First records of the file, cell by cell, the header among them."""
        lines = beginning.splitlines(keepends=True)[self.skip : self.skip + _LINES]
        return list(csv.reader(lines, **self.for_reader()))

    def for_reader(self) -> dict[str, Any]:
        """Options of Python's reader, which finds lines of a file again."""
        quoted: dict[str, Any] = {"quotechar": self.quote} if self.quote else {"quoting": csv.QUOTE_NONE}
        return {"delimiter": self.separator, "escapechar": self.escape or None, **quoted}


def detect(source: str, beginning: bytes, known: Collection[str] = ()) -> Dialect:
    """Find encoding, separator and decimal mark; the separator is the one that gives the `known` names of columns.

    Raises BadInput where bytes are no text in UTF-8 or with a byte order mark: guessing would garble names unseen.
    """
    encoding = next((name for mark, name in _MARKS if beginning.startswith(mark)), "utf-8")
    text = decoded(source, beginning, encoding)
    candidates = [Dialect(separator=mark, encoding=encoding) for mark in SEPARATORS]
    best = max(candidates, key=lambda dialect: _fit(dialect, text, known))
    return replace(best, decimal=",") if _has_comma_decimals(best, text) else best


def decoded(source: str, beginning: bytes, encoding: str) -> str:
    """Text of a file's beginning, whose last character may be cut off. Raises BadInput."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(beginning).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = beginning.count(b"\n", 0, error.start) + 1
        raise undecodable(Place(source, line), encoding, beginning, error.start) from error
    except LookupError as error:
        raise BadInput.one(
            Place(source), "an encoding that Python knows, as utf-8 or cp1252", repr(encoding)
        ) from error


def undecodable(place: Place, encoding: str, data: bytes, at: int) -> BadInput:
    """Tell of bytes that are no text in the encoding, and how they would read in another."""
    begin = data.rfind(b"\n", 0, at) + 1
    around = data[max(begin, at - 10) : at + 10].splitlines()[0]
    other = next(name for name in _GUESSES if _decodes(around, name))
    hint = f"{around.decode(other)!r} if it is {other}; then say encoding={other}"
    return BadInput.one(place, f"text in {encoding}", f"byte 0x{data[at]:02x}, which would read {hint}")


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _fit(dialect: Dialect, text: str, known: Collection[str]) -> tuple[int, int]:
    records = [cells for cells in dialect.records(text) if cells]
    if not records:
        return (0, 0)
    width = len(records[0])
    found = sum(name in known for name in records[0])
    alike = sum(len(cells) == width for cells in records)
    return (found, width * alike if width > 1 else 0)


def _has_comma_decimals(dialect: Dialect, text: str) -> bool:
    """Tell whether some column has numbers with a comma, and nothing but numbers without a point."""
    if dialect.separator == ",":
        return False
    rows = [cells for cells in dialect.records(text)[1:-1] if cells]
    return any(_is_comma_column([cell for cell in column if cell]) for column in zip(*rows, strict=False))


def _is_comma_column(cells: Sequence[str]) -> bool:
    whole = re.compile(r"\s*[-+]?\d+\s*")
    return any(map(_COMMA.fullmatch, cells)) and all(_COMMA.fullmatch(cell) or whole.fullmatch(cell) for cell in cells)
