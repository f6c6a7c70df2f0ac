"""From offered records to recorded commits, exactly once.

The order makes it safe: the table first, then PostgreSQL, then the resume hint. Wherever it breaks off, doing it again
finds what is done: the table skips offsets that it has, PostgreSQL is brought up to the table's log.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.dead_letter import DeadLetter, tenant_of
from holdtrue_core.ids import uuid7
from holdtrue_events.dead_letters import DeadLetters
from holdtrue_lake.ingest import Target
from prometheus_client import Counter

from holdtrue_registry.commands import record_commits
from holdtrue_registry.store.datasets import DatasetStore, every_dataset
from holdtrue_registry.store.positions import PositionStore
from holdtrue_registry.workers.messages import CONSUMER, TOPIC, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_contracts.registry.v1.datasets_pb2 import RecordsOffered
    from holdtrue_core.clock import Clock
    from holdtrue_events.outbox import Outbox
    from holdtrue_lake.commits import Commit
    from holdtrue_lake.ingest import Ingester
    from holdtrue_lake.table import Source

    from holdtrue_registry.closing import Closing
    from holdtrue_registry.commands import Progress
    from holdtrue_registry.domain.datasets import Dataset

_ROWS = Counter("holdtrue_registry_rows", "Rows ingested", ["outcome"])
_log = structlog.stdlib.get_logger("holdtrue.registry.ingest")


class Engine:
    """Hands messages of partitions to the lake and records what came of them. One call at a time."""

    def __init__(  # noqa: PLR0913, PLR0917  made in one place
        self,
        outbox: Outbox,
        ingester: Ingester,
        closing: Closing,
        clock: Clock,
        progress: Progress,
        version_seconds: float,
    ) -> None:
        """Drive the ingester; versions close after `version_seconds` (0: not by time)."""
        self._closing = closing
        self._outbox = outbox
        self._ingester = ingester
        self._clock = clock
        self._progress = progress
        self._version_seconds = version_seconds

    async def heal(self, tenant: str) -> None:
        """Record what tables got before a crash kept it from being recorded."""
        async for dataset in every_dataset(self._outbox, _actor(tenant)):
            if await asyncio.to_thread(self._ingester.has_table, dataset.id):
                await self._record(tenant, dataset, None)

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
        offers = [(message.record.offset, offered) for message, offered in group]
        commit = await asyncio.to_thread(self._ingester.ingest, _target(tenant, dataset), source, offers)
        await self._record(tenant, dataset, commit)
        return []

    async def _record(self, tenant: str, dataset: Dataset, commit: Commit | None) -> None:
        """Bring PostgreSQL up to the table's log; close a version that is due. `commit` is the newest, if known."""
        async with self._outbox.transaction(_actor(tenant)) as tx:
            locked = await DatasetStore(tx).lock(dataset.id)
            if locked is None:
                raise RuntimeError(f"dataset {dataset.id} disappeared")
            if commit and commit.number == locked.last_commit + 1:
                commits = [commit]
            else:
                commits = await asyncio.to_thread(self._ingester.commits, _target(tenant, dataset), locked.last_commit)
            recorded = await record_commits(tx, locked, commits)
        if self._is_due(recorded):
            await self._closing.close(_actor(tenant), dataset.id, self._is_due)
        _ROWS.labels("accepted").inc(recorded.accepted - locked.accepted)
        _ROWS.labels("quarantined").inc(recorded.quarantined - locked.quarantined)
        self._progress.advance()

    def _is_due(self, dataset: Dataset) -> bool:
        return dataset.is_due(self._clock.now(), self._version_seconds)

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


def _actor(tenant: str) -> Actor:
    return Actor(tenant, "registry", ActorKind.SERVICE)


def _target(tenant: str, dataset: Dataset) -> Target:
    return Target(dataset.id, dataset.name, dataset.schema_id, dataset.schema, dataset.rules_digest, tenant)
