"""What changed from one version to another. Commits that both have are the same rows: they are not looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdtrue_lake.versions import count_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema

    from holdtrue_lake.ranges import Ranges
    from holdtrue_lake.storage import Root


@dataclass(frozen=True)
class RowsDiff:
    """Commits that came and went, with their number of rows; `read_version` reads them."""

    added: Ranges
    removed: Ranges
    rows_added: int
    rows_removed: int


def diff_rows(root: Root, dataset_id: str, before: Ranges, after: Ranges) -> RowsDiff:
    """Compare the commits of two versions of a dataset; raises DatasetMissing, DamagedFile."""
    added, removed = after - before, before - after
    return RowsDiff(
        added=added,
        removed=removed,
        rows_added=count_rows(root, dataset_id, added) if added else 0,
        rows_removed=count_rows(root, dataset_id, removed) if removed else 0,
    )


@dataclass(frozen=True)
class SchemaDiff:
    """Columns that came, went, or are something else now; `changed` says what, a line each."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


def diff_schemas(before: DatasetSchema, after: DatasetSchema) -> SchemaDiff:
    """Compare two schemas."""
    old, new = ({column.name: column for column in schema.columns} for schema in (before, after))
    return SchemaDiff(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(_changes(before, after, old, new)),
    )


def _changes(
    before: DatasetSchema, after: DatasetSchema, old: dict[str, ColumnSpec], new: dict[str, ColumnSpec]
) -> Iterator[str]:
    for name in (name for name in old if name in new):
        for field in type(old[name]).DESCRIPTOR.fields:
            was, is_now = getattr(old[name], field.name), getattr(new[name], field.name)
            if was != is_now:
                yield f"{name}: {field.name} was {_shown(was)}, is {_shown(is_now)}"
    for role in ("label", "time"):
        was, is_now = getattr(before, role), getattr(after, role)
        if was != is_now:
            yield f"{role} was {was!r}, is {is_now!r}"


def _shown(value: object) -> str:
    return repr(value if isinstance(value, str | int | float) else list(value))  # type: ignore[call-overload]
