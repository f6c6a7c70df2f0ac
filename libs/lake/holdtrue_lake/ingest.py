"""From offered messages to commits of datasets' tables, exactly once.

The order makes it safe: refused records, then rows and offset in one commit of the table. Wherever it breaks off, doing
it again finds what is done. Whoever reads the log of messages drives this, and may begin anywhere: the table skips what
it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping  # noqa: TC003  of a type that is used at run time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import structlog
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema
from holdtrue_core.errors import InvalidArgument
from holdtrue_storage.blobs import BlobCorrupt, BlobMissing

from holdtrue_lake.faults import Code
from holdtrue_lake.protection import Protection
from holdtrue_lake.rules import rules_of
from holdtrue_lake.table import DatasetTable, Offer
from holdtrue_lake.validation import NO_RULES, Validated, compile_for, refused_whole, validate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_contracts.registry.v1.datasets_pb2 import RecordsOffered
    from holdtrue_core.clock import Clock
    from holdtrue_storage.blobs import Blobs

    from holdtrue_lake.checks import Checker
    from holdtrue_lake.commits import Commit
    from holdtrue_lake.quarantine import Standard
    from holdtrue_lake.storage import Root
    from holdtrue_lake.subjects import SubjectKey
    from holdtrue_lake.table import Source

MOST_BLOB_BYTES = 512 * 1024 * 1024
KeysOf: TypeAlias = "Callable[[str, set[str]], Mapping[str, SubjectKey]]"
"""Gives the keys of persons of a tenant by their identifiers, made where there are none yet. Blocks."""
_log = structlog.stdlib.get_logger("holdtrue.lake.ingest")


@dataclass(frozen=True)
class Target:
    """The dataset that messages are for; `rules` is the digest of its rules, which are a blob. Empty: none."""

    dataset_id: str
    name: str
    schema_id: str
    schema: DatasetSchema
    rules: str = ""
    tenant: str = ""


def no_keys(_tenant: str, _identifiers: set[str]) -> Mapping[str, SubjectKey]:
    """Refuse to ingest about persons."""
    raise RuntimeError("a dataset protects persons, and nothing here has their keys: give the ingester some")


class Ingester:
    """Puts offered messages into the tables of datasets. Blocks; one call at a time."""

    def __init__(self, root: Root, blobs: Blobs, clock: Clock, keys: KeysOf = no_keys) -> None:
        """Keep tables below `root`; `blobs` have rules, and rows that were too many for a message."""
        self._keys = keys
        self._root = root
        self._blobs = blobs
        self._clock = clock
        self._tables: dict[str, DatasetTable] = {}
        self._compiled = lru_cache(maxsize=256)(self._compile)

    def has_table(self, dataset_id: str) -> bool:
        """Tell whether the dataset has received anything yet."""
        return dataset_id in self._tables or DatasetTable.exists(self._root, dataset_id)

    def forget(self, dataset_id: str) -> None:
        """Open a table anew when it is next needed: others have rewritten it.

        Appending by the old handle would fail and be repeated; its first try would leave a file that nobody wants.
        """
        self._tables.pop(dataset_id, None)

    def commits(self, target: Target, after: int) -> list[Commit]:
        """Commits with numbers above `after` (-1: all), in order; the table is made if there is none yet."""
        return self._table(target).commits(after)

    def ingest(self, target: Target, source: Source, messages: Sequence[tuple[int, RecordsOffered]]) -> Commit | None:
        """Ingest messages (offset, message) of one partition in order of their offsets; None if all were there.

        Nothing in a message raises: what cannot be used is refused and kept. Raises what the disk and the table raise;
        calling again with the same is safe. Returns the last commit.
        """
        offers = [
            Offer(offset, offered.batch_id, lambda standard, offered=offered: self._settle(target, offered, standard))
            for offset, offered in messages
        ]
        try:
            return self._table(target).ingest(source, offers, self._clock.now(), target.rules)
        except Exception:
            self._tables.pop(target.dataset_id, None)  # its handle may be out of step with the disk
            raise

    def _table(self, target: Target) -> DatasetTable:
        if target.dataset_id not in self._tables:
            protected = bool(target.schema.subject)
            table = DatasetTable(self._root, target.dataset_id, target.schema, protected=protected)
            self._tables[target.dataset_id] = table
        return self._tables[target.dataset_id]

    def _settle(self, target: Target, offered: RecordsOffered, standard: Standard) -> Validated:
        """Validate a batch, and protect the persons that it is about: only then may it be stored."""
        content = self._judge(target, offered, standard)
        protection = Protection.of(target.dataset_id, target.schema)
        if protection is None:
            return content
        return protection.protect(content, self._keys(target.tenant, protection.identifiers(content)))

    def _judge(self, target: Target, offered: RecordsOffered, standard: Standard) -> Validated:
        """Validate a batch. What breaks the validation itself goes to quarantine too: it must not stop the others."""
        schema = target.schema
        checker = self._checker(target, standard.rules)
        if offered.schema_id not in ("", target.schema_id):
            expected = f"schema {target.schema_id} of dataset {target.name}"
            return refused_whole(schema, _raw(offered), Code.UNKNOWN_SCHEMA, expected, repr(offered.schema_id[:100]))
        try:
            if offered.HasField("blob_digest") and self._blobs.size(offered.blob_digest) > MOST_BLOB_BYTES:
                expected = f"at most {MOST_BLOB_BYTES} bytes in one batch"
                return refused_whole(schema, _raw(offered), Code.TOO_LARGE, expected, "more; send smaller batches")
            payload = self._blobs.get(offered.blob_digest) if offered.HasField("blob_digest") else offered.inline
            return validate(schema, payload, offered.format, standard.now, offered.event_time_column, checker)
        except (BlobMissing, BlobCorrupt, InvalidArgument) as error:
            return refused_whole(schema, _raw(offered), Code.MALFORMED, "a blob that can be read", error.message)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  recorded with the bytes; it must not stop the partition
            _log.exception("a batch broke its validation and goes to quarantine", batch_id=offered.batch_id)
            return refused_whole(schema, _raw(offered), Code.MALFORMED, "rows that can be validated", repr(error)[:200])

    def _checker(self, target: Target, rules: str) -> Checker:
        return self._compiled(target.schema.SerializeToString(deterministic=True), rules) if rules else NO_RULES

    def _compile(self, schema: bytes, rules: str) -> Checker:
        return compile_for(DatasetSchema.FromString(schema), rules_of(self._blobs.get(rules)))


def _raw(offered: RecordsOffered) -> bytes:
    return offered.inline or offered.blob_digest.encode()
