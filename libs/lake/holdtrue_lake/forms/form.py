"""What every form can do, and cutting what comes into pieces of equal size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import pyarrow as pa

from holdtrue_lake.forms.bad_input import Place
from holdtrue_lake.times import event_times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdtrue_lake.payload import Columns, Mask

TIME = pa.timestamp("us", "UTC")


class Form(ABC):
    """Rows in one form; `names` are those of the columns, None where each row has its own, `size` is in bytes."""

    def __init__(self, source: str, names: list[str] | None, size: int) -> None:
        """Say what everybody wants to know first."""
        self.source, self.names, self.size = source, names, size

    @abstractmethod
    def chunks(self, skip: int, rows: int) -> Iterator[Columns]:
        """Yield the rows after the first `skip`, always `rows` of them, fewer only at the end. Raises BadInput."""

    def place(self, row: int, column: str = "") -> Place:
        """Where a row is, counted from 0 in the whole source; it is in the chunk that came last."""
        return Place(self.source, row + 1, column, "row")

    @abstractmethod
    def done(self) -> int:
        """Bytes that have been read so far."""

    def times(self, columns: Columns, name: str) -> tuple[pa.Array, Mask]:
        """Return a column as times in UTC, and the mask of values that are none."""
        micros, missing, wrong = event_times(columns.plain(name))
        return pa.array(micros, mask=missing | wrong).cast(TIME), wrong


def even(tables: Iterable[pa.Table | pa.RecordBatch], skip: int, rows: int) -> Iterator[pa.Table]:
    """Cut what comes, after the first `skip` rows, into tables of `rows` rows each, fewer only at the end."""
    waiting: list[pa.Table] = []
    count = 0
    for came in tables:
        table = pa.Table.from_batches([came]) if isinstance(came, pa.RecordBatch) else came
        passed = min(skip, table.num_rows)
        skip -= passed
        waiting.append(table.slice(passed))
        count += table.num_rows - passed
        while count >= rows:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, rows)
            waiting, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(waiting)
