"""Where tables lie: one setting, a directory or `s3://bucket/prefix`."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import PyFileSystem

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa


_LAYOUT = re.compile(r"(\s|\x1b\[[0-9;]*m)+")


class StoreUnfit(Exception):
    """A lake cannot lie there; the message says why."""


class DatasetMissing(LookupError):
    """There is no table of this dataset under this root."""


@dataclass(frozen=True)
class Storage:
    """A place for tables that needs options to be reached: keys, region, endpoint, by the names of object_store."""

    uri: str
    options: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)  # secrets are among them


Root: TypeAlias = Path | Storage
"""Where all tables of a lake lie."""


def lake_root(setting: str, options: Mapping[str, str] | None = None) -> Root:
    """Place of a lake from one setting: a directory, or `s3://bucket/prefix` with the options of object_store.

    Options that are not given come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …).
    Raises ValueError for any other kind of place.
    """
    if setting.startswith("s3://"):
        return Storage(setting.rstrip("/"), dict(options or {}))
    if "://" in setting or not setting:
        raise ValueError(f"a lake lies in a directory or at s3://bucket/prefix, got {setting!r}")
    return Path(setting)


def check_root(root: Root) -> None:
    """Try out that of two puts of the same new object one is refused, and leave no trace. Raises StoreUnfit.

    A store that ignores such conditions would let a later writer's commit replace an earlier one's, without a word.
    """
    import obstore  # noqa: PLC0415  only at the start of a process that owns a lake
    from obstore.exceptions import AlreadyExistsError, BaseError  # noqa: PLC0415

    name = f"probe-{uuid.uuid4()}"
    try:
        store = _store(root)
        obstore.put(store, name, b"first", mode="create")
        try:
            obstore.put(store, name, b"second", mode="create")
        except AlreadyExistsError:
            return
        finally:
            obstore.delete(store, name)
    except (OSError, BaseError) as error:
        raise StoreUnfit(f"{_named(root)} cannot be written: {in_a_line(error)}") from error
    raise StoreUnfit(f"{_named(root)} ignores conditional puts: two writers would lose each other's rows")


def _store(root: Root) -> Any:  # noqa: ANN401  a store of one of several classes
    from obstore.store import LocalStore, S3Store  # noqa: PLC0415

    if isinstance(root, Path):
        return LocalStore(root, mkdir=True)
    plain = root.options.get("AWS_ALLOW_HTTP") == "true"
    config: Any = {name.lower(): value for name, value in root.options.items() if name != "AWS_ALLOW_HTTP"}
    return S3Store.from_url(root.uri, config=config, client_options={"allow_http": plain})


def folder(place: Storage) -> Any:  # noqa: ANN401  an untyped library's file system
    """Return a table's folder as a file system."""
    return PyFileSystem(DeltaStorageHandler(place.uri, dict(place.options)))


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


def in_a_line(error: Exception) -> str:
    """Return a message of the library, which is laid out and coloured for a terminal, as plain text."""
    return _LAYOUT.sub(" ", str(error)).strip()


def _named(root: Root) -> str:
    return str(root) if isinstance(root, Path) else root.uri


def _below(root: Root, name: str) -> Storage:
    if isinstance(root, Path):
        return Storage(str(root / name))
    return Storage(f"{root.uri.rstrip('/')}/{name}", root.options)
