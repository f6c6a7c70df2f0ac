"""Where tables lie: one setting, a directory or `s3://bucket/prefix`."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa


class DatasetMissing(LookupError):
    """There is no table of this dataset under this root."""


@dataclass(frozen=True)
class Storage:
    """A place for tables that needs options to be reached: keys, region, endpoint, by the names of object_store."""

    uri: str
    options: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)  # secrets are among them


Root: TypeAlias = Path | Storage
"""Where all tables of a lake lie."""


def rows_uri(root: Root, dataset_id: str) -> Storage:
    """Place of a dataset's table; raises ValueError where the id is no UUID, so that no id can name a place."""
    return _below(root, str(uuid.UUID(dataset_id)))


def quarantine_uri(root: Root, dataset_id: str) -> Storage:
    """Place of the table of a dataset's refused records."""
    return _below(root, f"{uuid.UUID(dataset_id)}_quarantine")


def has_table(place: Storage) -> bool:
    """Tell whether there is a table."""
    return DeltaTable.is_deltatable(place.uri, dict(place.options))


def open_table(place: Storage) -> DeltaTable:
    """Open a table as it is now; raises DatasetMissing."""
    try:
        return DeltaTable(place.uri, storage_options=dict(place.options))
    except TableNotFoundError as error:
        raise DatasetMissing(f"there is no table at {place.uri}; has it received any rows?") from error


def make_table(place: Storage, schema: pa.Schema, settings: Mapping[str, str]) -> DeltaTable:
    """Open a table, made first if there is none; several may do so at once."""
    options = dict(place.options)
    if not has_table(place):
        try:
            return DeltaTable.create(place.uri, schema, mode="error", configuration=settings, storage_options=options)
        except DeltaError:
            if not has_table(place):  # somebody else may have created it just now
                raise
    return DeltaTable(place.uri, storage_options=options)


def _below(root: Root, name: str) -> Storage:
    if isinstance(root, Path):
        return Storage(str(root / name))
    return Storage(f"{root.uri.rstrip('/')}/{name}", root.options)
