"""Read dataset versions. Arrow and Delta take 45 MB, so they are imported when the first run needs them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished

EVENT_TIME = "_event_time"
"""Column with the time of each row's event: a timestamp in UTC."""


def write_rows(root: Path, dataset: DatasetVersionPublished, target: Path) -> None:
    """Write the rows of a version, in canonical order, as an Arrow file. Blocks."""
    import pyarrow as pa  # noqa: PLC0415 - see the module

    table = _read(root, dataset)
    with pa.OSFile(str(target), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def labelled_since(root: Path, dataset: DatasetVersionPublished, from_ns: int) -> int:
    """Return how many labelled rows of a version have an event time from `from_ns` on. Blocks."""
    key = (dataset.dataset_id, dataset.digest, dataset.schema.label)
    return _count(root, key, tuple((r.first, r.last) for r in dataset.ranges), from_ns)


@lru_cache(maxsize=64)
def _count(root: Path, key: tuple[str, str, str], ranges: tuple[tuple[int, int], ...], from_ns: int) -> int:
    """Count once: only an erasure changes a version, and its digest."""
    import pyarrow as pa  # noqa: PLC0415 - see the module
    import pyarrow.compute as pc  # noqa: PLC0415
    from holdtrue_lake.versions import read_version  # noqa: PLC0415

    dataset_id, _, label = key
    table = read_version(root, dataset_id, ranges)
    times = table.column(EVENT_TIME).cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
    late = pc.and_(pc.greater_equal(times, from_ns), pc.is_valid(table.column(label)))
    return int(pc.sum(late).as_py() or 0)


def _read(root: Path, dataset: DatasetVersionPublished) -> pa.Table:
    from holdtrue_lake.versions import read_version  # noqa: PLC0415 - see the module

    return read_version(root, dataset.dataset_id, [(r.first, r.last) for r in dataset.ranges])
