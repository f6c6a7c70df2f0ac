"""Closing versions: what waits is read, judged by the expectations in force, and becomes the next version."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.datasets_pb2 import BrokenExpectation
from holdtrue_lake.expectations import assess
from holdtrue_lake.files import DamagedFile
from holdtrue_lake.layout import Layout
from holdtrue_lake.profile import observe
from holdtrue_lake.ranges import Ranges
from holdtrue_lake.rules import Categories, Psi, rules_of
from holdtrue_lake.rules_yaml import RulesInvalid
from holdtrue_lake.versions import read_version

from holdtrue_registry.history import close_version
from holdtrue_registry.store.datasets import DatasetStore
from holdtrue_registry.store.history import HistoryStore
from holdtrue_registry.store.suspicion import SuspicionStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from holdtrue_contracts.actor import Actor
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished
    from holdtrue_core.clock import Clock
    from holdtrue_events.outbox import Outbox
    from holdtrue_lake.expectations import Reason
    from holdtrue_lake.leases import Leases
    from holdtrue_lake.profile import Profile
    from holdtrue_lake.rules import Rules
    from holdtrue_storage.blobs import Blobs
    from holdtrue_storage.database import Transaction

    from holdtrue_registry.domain.datasets import Dataset

_MOST_ATTEMPTS = 10


class Closing:
    """Closes versions. Rows are read while nothing is locked: ingestion goes on, and what comes waits for the next."""

    def __init__(self, outbox: Outbox, lake: Path, blobs: Blobs, leases: Leases, clock: Clock) -> None:
        """Say where tables and rules are."""
        self._outbox = outbox
        self._lake = lake
        self._blobs = blobs
        self._leases = leases
        self._clock = clock

    async def close(
        self, actor: Actor, dataset_id: str, wanted: Callable[[Dataset], bool]
    ) -> DatasetVersionPublished | None:
        """Make what waits the next version, where there is something and the dataset is as `wanted`; else None."""
        for _ in range(_MOST_ATTEMPTS):
            async with self._outbox.transaction(actor) as tx:
                dataset = await DatasetStore(tx).get(dataset_id)
                if dataset is None or not dataset.open_rows or not wanted(dataset):
                    return None
                fresh, trusted = await _waiting(tx, dataset)
            broken = await self.judge(actor.tenant, dataset, fresh, trusted)
            async with self._outbox.transaction(actor) as tx:
                locked = await DatasetStore(tx).lock(dataset_id)
                if locked and locked.latest_version == dataset.latest_version:
                    return await close_version(tx, locked, dataset.last_commit, broken)
        raise RuntimeError(f"dataset {dataset_id}: {_MOST_ATTEMPTS} attempts to close a version met others")

    async def judge(
        self, tenant: str, dataset: Dataset, fresh: Ranges, trusted: Ranges | None = None
    ) -> list[BrokenExpectation]:
        """Return what the rows of commits do not meet; `trusted` are those that they are compared with."""
        if not dataset.rules_digest or not fresh:
            return []
        rules = rules_of(await asyncio.to_thread(self._blobs.get, dataset.rules_digest))
        if not rules.expectations:
            return []
        async with self._leases.reader(tenant, dataset.id, "expectations"):
            return await asyncio.to_thread(
                _judged, self._lake, dataset, rules, fresh, trusted or Ranges(), self._clock.now()
            )


async def _waiting(tx: Transaction, dataset: Dataset) -> tuple[Ranges, Ranges]:
    """Return the commits that wait for a version, and those of the newest one that nobody has doubts about."""
    versions = await HistoryStore(tx).versions(dataset, most=1)
    newest = versions[0] if versions else None
    first = newest.watermark + 1 if newest else 0
    fresh = Ranges.of([(first, dataset.last_commit)] if first <= dataset.last_commit else [])
    doubted = Ranges.of(span for each in await SuspicionStore(tx).open(dataset.id) for span in each.commits)
    return fresh, newest.commits - doubted if newest else Ranges()


def _judged(  # noqa: PLR0913, PLR0917  what it takes to judge rows
    lake: Path, dataset: Dataset, rules: Rules, fresh: Ranges, trusted: Ranges, now: datetime
) -> list[BrokenExpectation]:
    """Apply the expectations; rows that cannot be read or judged are not as expected either."""
    try:
        rows = read_version(lake, dataset.id, fresh)
        reference = _reference(lake, dataset, trusted) if _compares(rules) and trusted else None
        reasons = assess(rules, rows, now, reference).reasons
    except (DamagedFile, RulesInvalid) as error:
        return [BrokenExpectation(rule="readable", expected="rows that can be read and judged", got=str(error)[:1000])]
    return [_broken(reason) for reason in reasons if reason.verdict == "broken"]


def _compares(rules: Rules) -> bool:
    """Whether some expectation compares with earlier rows."""
    return any(
        isinstance(each, Psi) or (isinstance(each, Categories) and each.known is None) for each in rules.expectations
    )


def _reference(lake: Path, dataset: Dataset, trusted: Ranges) -> Profile | None:
    rows = read_version(lake, dataset.id, trusted)
    if not rows.num_rows:
        return None
    personal = {column.name for column in dataset.schema.columns if column.pii}
    return observe(rows, Layout.of(rows, label=dataset.schema.label, pii=personal))


def _broken(reason: Reason) -> BrokenExpectation:
    return BrokenExpectation(
        rule=reason.rule, column=reason.column, expected=reason.expected, got=reason.got, count=reason.count
    )
