"""Files of text, compressed or not: separated values and JSON lines."""

from __future__ import annotations

import csv
import io
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pyarrow as pa
from pyarrow import csv as arrow_csv

from holdtrue_lake.forms.bad_input import BadInput, Place
from holdtrue_lake.forms.cells import columns_of_text, time_cells
from holdtrue_lake.forms.dialect import Dialect, decoded, detect, undecodable
from holdtrue_lake.forms.form import Form, even
from holdtrue_lake.payload import Unreadable, read_json_lines
from holdtrue_lake.views import one_array

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from holdtrue_lake.payload import Columns, Mask

_BLOCK = 2 << 20
_BEGINNING = 1 << 16
_ROW = re.compile(r"Row #(\d+): (.*)", re.DOTALL)
_COMPRESSIONS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"))


class TextFile:
    """A file's bytes, unpacked, and how far they have been read."""

    def __init__(self, path: Path) -> None:
        """Look at the first bytes: they say how the file is packed, its name does not."""
        self.path = path
        self.size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(4)
        self._packing = next((name for mark, name in _COMPRESSIONS if magic.startswith(mark)), None)
        self._packed: Any = None

    def open(self) -> BinaryIO:
        """Open the unpacked bytes."""
        self._packed = pa.OSFile(str(self.path))
        stream = pa.CompressedInputStream(self._packed, self._packing) if self._packing else self._packed
        return io.BufferedReader(stream, 1 << 20)

    def beginning(self) -> bytes:
        """First bytes, unpacked. Raises BadInput where they cannot be."""
        try:
            with self.open() as file:
                return file.read(_BEGINNING)
        except OSError as error:
            raise self.broken(error) from error

    def broken(self, error: Exception) -> BadInput:
        """Tell of a file that cannot be read to its end."""
        expected = f"{self._packing} data" if self._packing else "a readable file"
        return BadInput.one(Place(str(self.path)), expected, str(error))

    def done(self) -> int:
        """Bytes of the file itself that have been read."""
        return self.size if self._packed.closed else min(self._packed.tell(), self.size)


class SeparatedValues(Form):
    """A file of separated values with a header."""

    def __init__(self, path: Path, dialect: Dialect | None, known: Collection[str]) -> None:
        """Read the header. Raises BadInput."""
        self._file = TextFile(path)
        beginning = self._file.beginning()
        self.dialect = dialect or detect(str(path), beginning, known)
        names = self.dialect.header(decoded(str(path), beginning, self.dialect.encoding))
        super().__init__(str(path), names, self._file.size)
        self._lines, self._next = self._line_numbers(), 0
        if not names:
            raise BadInput.one(Place(str(path)), "a header with the names of the columns", "nothing")

    def chunks(self, skip: int, rows: int) -> Iterator[Columns]:
        """See `Form`."""
        for table in even(self._tables(), skip, rows):
            yield columns_of_text(table, self.dialect)

    def place(self, row: int, column: str = "") -> Place:
        """See `Form`; the file is read again to count its lines, once for rows that are asked for in order."""
        if row < self._next:
            self._lines, self._next = self._line_numbers(), 0
        line = next(islice(self._lines, row - self._next, None), 0)
        self._next = row + 1
        return Place(self.source, line, column)

    def times(self, columns: Columns, name: str) -> tuple[pa.Array, Mask]:
        """See `Form`."""
        cells = one_array(cast("pa.ChunkedArray", columns.plain(name)))
        return time_cells(cells, self.dialect, self.dialect.times.get(name, ""))

    def done(self) -> int:
        """See `Form`."""
        return self._file.done()

    def _tables(self) -> Iterator[pa.RecordBatch]:
        try:
            with self._file.open() as stream, self._reader(stream) as reader:
                yield from reader
        except pa.ArrowInvalid as error:
            raise self._located(error) from error
        except UnicodeDecodeError as error:
            raise self._undecodable(str(error)) from error
        except OSError as error:
            raise self._file.broken(error) from error

    def _reader(self, stream: BinaryIO) -> Any:  # noqa: ANN401  an untyped library's reader
        dialect = self.dialect
        return arrow_csv.open_csv(
            stream,
            arrow_csv.ReadOptions(
                use_threads=False,  # only so do messages name the row
                block_size=_BLOCK,
                skip_rows=dialect.skip,
                encoding=dialect.encoding,
            ),
            arrow_csv.ParseOptions(
                delimiter=dialect.separator,
                quote_char=dialect.quote or False,
                escape_char=dialect.escape or False,
                newlines_in_values=True,
            ),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(self.names or [], pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _located(self, error: Exception) -> BadInput:
        message = str(error)
        if "UTF8" in message:
            return self._undecodable(message)
        if "straddling" in message or "block size" in message:
            expected = f"rows of at most {_BLOCK:,} bytes"
            return BadInput.one(Place(str(self._file.path)), expected, "a longer one; is a quotation mark left open?")
        match = _ROW.search(message)
        if match is None:
            return BadInput.one(Place(str(self._file.path)), "separated values", message)
        what = re.search(r"Expected (\d+) columns, got (\d+)", match[2])
        place = self.place(int(match[1]) - 2 - self.dialect.skip)
        if what is None:
            return BadInput.one(place, "separated values", match[2][:200])
        return BadInput.one(place, f"{what[1]} cells, as the header has", what[2])

    def _undecodable(self, message: str) -> BadInput:
        """Find the line; in encodings of two bytes or more a line's end is not a single byte, so it stays unknown."""
        encoding, path = self.dialect.encoding, str(self._file.path)
        if encoding.lower().replace("-", "").startswith(("utf16", "utf32")):
            return BadInput.one(Place(path), f"text in {encoding}", message)
        with self._file.open() as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode(encoding)
                except UnicodeDecodeError as error:
                    return undecodable(Place(path, number), encoding, line, error.start)
        return BadInput.one(Place(path), f"text in {encoding}", message)

    def _line_numbers(self) -> Iterator[int]:
        """Line on which each row begins; lines without anything are no rows, and the header is none."""
        encoding = "utf-8-sig" if self.dialect.encoding == "utf-8" else self.dialect.encoding
        with io.TextIOWrapper(self._file.open(), encoding, errors="replace", newline="") as file:
            begin = self.dialect.skip + 1
            for _ in islice(file, self.dialect.skip):
                pass
            reader = csv.reader(file, **self.dialect.for_reader())
            header = True
            for fields in reader:
                if fields and not header:
                    yield begin
                header = header and not fields
                begin = self.dialect.skip + reader.line_num + 1


class JsonLines(Form):
    """A file with one JSON object a line; empty lines do not count."""

    def __init__(self, path: Path) -> None:
        """Say which file."""
        self._file = TextFile(path)
        super().__init__(str(path), None, self._file.size)
        self._first = 0
        self._lines: list[int] = []

    def chunks(self, skip: int, rows: int) -> Iterator[Columns]:
        """See `Form`."""
        try:
            with self._file.open() as file:
                filled = ((number, line) for number, line in enumerate(file, 1) if line.strip())
                self._first = sum(1 for _ in islice(filled, skip))
                while chunk := list(islice(filled, rows)):
                    self._lines = [number for number, _ in chunk]
                    yield self._read([line for _, line in chunk])
                    self._first += len(chunk)
        except OSError as error:
            raise self._file.broken(error) from error

    def place(self, row: int, column: str = "") -> Place:
        """See `Form`."""
        return Place(self.source, self._lines[row - self._first], column)

    def done(self) -> int:
        """See `Form`."""
        return self._file.done()

    def _read(self, lines: list[bytes]) -> Columns:
        if not self._first and lines[0].lstrip().startswith(b"["):
            expected = "one JSON object a line"
            raise BadInput.one(self.place(0), expected, "a list; write each of its objects on a line of its own")
        try:
            return read_json_lines(b"".join(line.rstrip(b"\n") + b"\n" for line in lines))
        except Unreadable as error:
            raise BadInput.one(self.place(self._first), error.expected, error.got) from error
