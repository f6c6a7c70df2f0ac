"""From offered records to recorded commits, exactly once.

The order makes it safe: refused records, then rows and offset in one commit of the table, then PostgreSQL, then the
resume hint. Wherever it breaks off, doing it again finds what is done: the table skips offsets that it has, PostgreSQL
is brought up to the table's log.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.dead_letter import DeadLetter, tenant_of
from holdtrue_core.errors import InvalidArgument
from holdtrue_core.ids import uuid7
from holdtrue_events.dead_letters import DeadLetters
from holdtrue_lake.faults import Code
from holdtrue_lake.table import DatasetTable, Offer
from holdtrue_lake.validation import Validated, refused_whole, validate
from holdtrue_storage.blobs import BlobCorrupt, BlobMissing
from prometheus_client import Counter

from holdtrue_registry.commands import close_version, record_commits
from holdtrue_registry.store.datasets import DatasetStore
from holdtrue_registry.store.positions import PositionStore
from holdtrue_registry.workers.messages import CONSUMER, TOPIC, Message

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from holdtrue_contracts.registry.v1.datasets_pb2 import RecordsOffered
    from holdtrue_core.clock import Clock
    from holdtrue_events.outbox import Outbox
    from holdtrue_lake.commits import Commit
    from holdtrue_lake.table import Source
    from holdtrue_storage.blobs import Blobs

    from holdtrue_registry.commands import Progress
    from holdtrue_registry.domain.datasets import Dataset

MOST_BLOB_BYTES = 512 * 1024 * 1024
_ROWS = Counter("holdtrue_registry_rows", "Rows ingested", ["outcome"])
_log = structlog.stdlib.get_logger("holdtrue.registry.ingest")


class Engine:
    """Puts messages of partitions into tables and records what came of them. One call at a time."""

    def __init__(  # noqa: PLR0913, PLR0917  made once, in app.py
        self, outbox: Outbox, lake: Path, blobs: Blobs, clock: Clock, progress: Progress, version_seconds: float
    ) -> None:
        """Keep tables in the folder `lake`; versions close after `version_seconds` (0: not by time)."""
        self._outbox = outbox
        self._lake = lake
        self._blobs = blobs
        self._clock = clock
        self._progress = progress
        self._version_seconds = version_seconds
        self._tables: dict[str, DatasetTable] = {}

    async def heal(self, tenant: str) -> None:
        """Record what tables got before a crash kept it from being recorded."""
        after = ""
        while True:
            async with self._outbox.transaction(_actor(tenant)) as tx:
                page = await DatasetStore(tx).page(after, 500)
            for dataset in page:
                if await asyncio.to_thread(DatasetTable.exists, self._lake, dataset.id):
                    await self._record(tenant, dataset, await self._table(dataset), None)
            if not page:
                return
            after = page[-1].name

    async def open(self, tenant: str, source: Source, begin: int) -> int:
        """Return the offset of the partition to go on with: `begin`, its first, if it was never read."""
        async with self._outbox.transaction(_actor(tenant)) as tx:
            return await PositionStore(tx).open(source.topic_id, source.partition, begin)

    async def ingest(self, tenant: str, source: Source, messages: Sequence[Message]) -> None:
        """Ingest messages of one partition in order of their offsets, at least one.

        Raises what the disk, the table or the database raise; calling again with the same is safe.
        """
        offered: dict[tuple[str, str], list[tuple[Message, RecordsOffered]]] = {}
        dead = [message for message in messages if message.reason]
        for message in messages:
            if message.event:
                group = offered.setdefault((message.event.tenant, message.event.data.dataset_id), [])
                group.append((message, message.event.data))
        for (owner, dataset_id), group in offered.items():
            dead += await self._ingest_dataset(owner, dataset_id, source, group)
        await self._finish(tenant, source, messages, dead)

    async def _ingest_dataset(
        self, tenant: str, dataset_id: str, source: Source, group: Sequence[tuple[Message, RecordsOffered]]
    ) -> list[Message]:
        """Return those messages that belong to no dataset."""
        async with self._outbox.transaction(_actor(tenant)) as tx:
            dataset = await DatasetStore(tx).get(dataset_id)
        if dataset is None:
            text = f"there is no dataset with the id {dataset_id[:100]!r}; create it, then replay this"
            return [Message(message.record, None, "unknown_dataset", text) for message, _ in group]
        table = await self._table(dataset)
        try:
            commit = await asyncio.to_thread(
                self._append, dataset, table, source, [(m.record.offset, offered) for m, offered in group]
            )
        except Exception:
            del self._tables[dataset.id]  # its handle may be out of step with the disk
            raise
        await self._record(tenant, dataset, table, commit)
        return []

    def _append(
        self, dataset: Dataset, table: DatasetTable, source: Source, group: Sequence[tuple[int, RecordsOffered]]
    ) -> Commit | None:
        position = table.position(source)
        offers = [
            Offer(offset, offered.batch_id, self._judge(dataset, offered))
            for offset, offered in group
            if position is None or offset > position
        ]
        return table.ingest(source, offers, self._clock.now())

    def _judge(self, dataset: Dataset, offered: RecordsOffered) -> Validated:
        """Validate a batch. What breaks the validation itself goes to quarantine too: it must not stop the others."""
        schema = dataset.schema
        if offered.schema_id not in ("", dataset.schema_id):
            expected = f"schema {dataset.schema_id} of dataset {dataset.name}"
            return refused_whole(schema, _raw(offered), Code.UNKNOWN_SCHEMA, expected, repr(offered.schema_id[:100]))
        try:
            if offered.HasField("blob_digest") and self._blobs.size(offered.blob_digest) > MOST_BLOB_BYTES:
                expected = f"at most {MOST_BLOB_BYTES} bytes in one batch"
                return refused_whole(schema, _raw(offered), Code.TOO_LARGE, expected, "more; send smaller batches")
            payload = self._blobs.get(offered.blob_digest) if offered.HasField("blob_digest") else offered.inline
            return validate(schema, payload, offered.format, self._clock.now(), offered.event_time_column)
        except (BlobMissing, BlobCorrupt, InvalidArgument) as error:
            return refused_whole(schema, _raw(offered), Code.MALFORMED, "a blob that can be read", error.message)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  recorded with the bytes; it must not stop the partition
            _log.exception("a batch broke its validation and goes to quarantine", batch_id=offered.batch_id)
            return refused_whole(schema, _raw(offered), Code.MALFORMED, "rows that can be validated", repr(error)[:200])

    async def _record(self, tenant: str, dataset: Dataset, table: DatasetTable, commit: Commit | None) -> None:
        """Bring PostgreSQL up to the table's log; close a version that is due. `commit` is the newest, if known."""
        async with self._outbox.transaction(_actor(tenant)) as tx:
            locked = await DatasetStore(tx).lock(dataset.id)
            if locked is None:
                raise RuntimeError(f"dataset {dataset.id} disappeared")
            if commit and commit.number == locked.last_commit + 1:
                commits = [commit]
            else:
                commits = await asyncio.to_thread(table.commits, locked.last_commit)
            recorded = await record_commits(tx, locked, commits)
            if recorded.is_due(self._clock.now(), self._version_seconds):
                await close_version(tx, recorded)
        _ROWS.labels("accepted").inc(recorded.accepted - locked.accepted)
        _ROWS.labels("quarantined").inc(recorded.quarantined - locked.quarantined)
        self._progress.advance()

    async def _finish(self, tenant: str, source: Source, messages: Sequence[Message], dead: Sequence[Message]) -> None:
        """Keep the unusable messages, settle what was replayed and move the resume hint past all, once."""
        async with self._outbox.transaction(_actor(tenant)) as tx:
            after = messages[-1].record.offset + 1
            before = await PositionStore(tx).advance(source.topic_id, source.partition, after)
            letters = DeadLetters(tx)
            for message in dead:
                if message.record.offset >= before:
                    await letters.add(self._letter(message))
            for message in messages:
                if message.letter and message.record.offset >= before:
                    await letters.settle(tenant_of(message.record.headers), message.letter)

    def _letter(self, message: Message) -> DeadLetter:
        record = message.record
        _log.warning("dead letter", reason=message.reason, message=message.text, offset=record.offset)
        return DeadLetter(
            id=uuid7(),
            tenant=tenant_of(record.headers),
            consumer=CONSUMER,
            topic=TOPIC,
            partition=record.partition,
            offset=record.offset,
            reason=message.reason,
            message=message.text,
            failed_at=self._clock.now(),
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
        )

    async def _table(self, dataset: Dataset) -> DatasetTable:
        if dataset.id not in self._tables:
            table = await asyncio.to_thread(DatasetTable, self._lake, dataset.id, dataset.schema)
            self._tables[dataset.id] = table
        return self._tables[dataset.id]


def _actor(tenant: str) -> Actor:
    return Actor(tenant, "registry", ActorKind.SERVICE)


def _raw(offered: RecordsOffered) -> bytes:
    return offered.inline or offered.blob_digest.encode()
