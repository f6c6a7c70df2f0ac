"""What people do with the versions of a dataset, each in one transaction under the dataset's lock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.datasets_pb2 import (
    BrokenExpectation,
    DatasetVersionCleared,
    DatasetVersionPublished,
    DatasetVersionRetracted,
    DatasetVersionSuspected,
)
from holdtrue_core.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound
from holdtrue_lake.history import Status
from holdtrue_lake.ranges import Ranges

from holdtrue_registry.domain.datasets import commit_ranges, published
from holdtrue_registry.domain.lineage import MODEL_VERSION, dataset_version_node
from holdtrue_registry.store.history import HistoryStore
from holdtrue_registry.store.lineage import LineageStore
from holdtrue_registry.store.suspicion import Suspicion, SuspicionStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_events.outbox import Transaction
    from holdtrue_lake.history import Version

    from holdtrue_registry.domain.datasets import Dataset

MOST_SPANS = 10_000


@dataclass(frozen=True)
class Retraction:
    """A version without bad commits: what it takes out, which versions it flags, which models learned from them."""

    version: DatasetVersionPublished
    commits: Ranges
    batch_ids: Sequence[str]
    rows: int
    flagged: Sequence[int]
    models: Sequence[str]


@dataclass(frozen=True)
class Clearing:
    """Versions that may be used now, commits whose rows were suspicious, and what these do not meet."""

    versions: Sequence[int]
    commits: Ranges
    broken: Sequence[BrokenExpectation]


@dataclass(frozen=True)
class RollBack:
    """A version with the commits of an older one: what it has and the newest had not, and the other way round."""

    version: DatasetVersionPublished
    added: Ranges
    removed: Ranges
    rows_removed: int


def check_seen(dataset: Dataset, expected: int) -> None:
    """Raise Conflict where the caller has seen another newest version; 0: any will do."""
    if expected and dataset.latest_version != expected:
        raise Conflict(
            f"the newest version of dataset {dataset.name!r} is {dataset.latest_version} now, not {expected}: "
            "look at it again and repeat",
            reason="VERSION_CHANGED",
        )


async def retract(  # noqa: PLR0913  what there is to say
    tx: Transaction,
    dataset: Dataset,
    commits: Ranges,
    batch_ids: Sequence[str],
    reason: str,
    *,
    dry_run: bool,
    broken: Sequence[BrokenExpectation] = (),
) -> Retraction:
    """Make a version without commits, and flag those that hold them. With `dry_run` only say what would happen.

    Where there is no version yet this is the first, and `broken` what its rows do not meet.

    Raises InvalidArgument for commits and batches that are not there, FailedPrecondition where nothing would change.
    """
    store = HistoryStore(tx)
    wanted = commits | await _of_batches(store, dataset, batch_ids)
    history = await store.load(dataset)
    before = history.newest
    bad = wanted - before.retracted if before else wanted
    if wanted and not bad:
        raise FailedPrecondition(f"commits {wanted} are retracted already", reason="NOTHING_CHANGES")
    try:
        after = history.retract(bad, _now())
    except ValueError as error:
        raise InvalidArgument.of("commits", f"{error}; it has {len(history.digests)} commits, from 0") from error
    flagged = [v for v in after.versions[:-1] if v.commits & bad]
    newly = [v.number for v in flagged if history.version(v.number).status is not Status.RETRACTED]
    draft = await _drafted(tx, dataset, after.versions[-1], reason, broken=broken if before is None else ())
    version = draft.published
    if not dry_run:
        await store.flag(dataset.id, newly)
        for old in flagged:
            tx.publish(_flag(dataset, old, bad, reason, version.version), aggregate_version=version.version)
        await _save(tx, dataset, draft)
    numbers = [v.number for v in flagged]
    return Retraction(
        version=version,
        commits=bad,
        batch_ids=await store.batches_in(dataset.id, bad),
        rows=(await store.holding(dataset.id, bad)).rows,
        flagged=numbers,
        models=await models_of(tx, dataset, numbers),
    )


async def roll_back(  # noqa: PLR0913
    tx: Transaction, dataset: Dataset, number: int, reason: str, *, reinstate: bool, dry_run: bool
) -> RollBack:
    """Make a version with the commits of an older one. With `dry_run` only say what would happen.

    Raises NotFound for a version that is not there, FailedPrecondition where nothing would change.
    """
    store = HistoryStore(tx)
    history = await store.load(dataset)
    try:
        after = history.roll_back(number, _now(), reinstate=reinstate)
    except LookupError as error:
        raise NotFound(
            f"dataset {dataset.name!r} has no version {number}; its newest is {dataset.latest_version}",
            hint=f"holdtrue datasets show {dataset.name}",
        ) from error
    newest, version = history.versions[-1], after.versions[-1]
    waiting = Ranges.of([(newest.watermark + 1, dataset.last_commit)] if newest.watermark < dataset.last_commit else [])
    added, removed = version.commits - newest.commits, (newest.commits | waiting) - version.commits
    if not added and not removed:
        raise FailedPrecondition(
            f"version {newest.number} of dataset {dataset.name!r} has the commits of version {number} already",
            reason="NOTHING_CHANGES",
        )
    draft = await _drafted(tx, dataset, version, reason, restores=number)
    if not dry_run:
        await _save(tx, dataset, draft)
    return RollBack(draft.published, added, removed, (await store.holding(dataset.id, removed)).rows)


async def close_version(
    tx: Transaction, dataset: Dataset, last: int, broken: Sequence[BrokenExpectation]
) -> DatasetVersionPublished:
    """Make everything up to the commit `last` the next version and tell about it; some of it is in no version yet.

    The dataset is locked; `broken` is what the new rows do not meet.
    """
    before = await HistoryStore(tx).load(dataset, most=1, last=last)
    version = before.publish(_now()).versions[-1]
    fresh = version.commits - before.newest.commits if before.newest else version.commits
    draft = await _drafted(tx, dataset, version, "", broken=broken, fresh=fresh)
    await _save(tx, dataset, draft)
    return draft.published


async def clear(tx: Transaction, dataset: Dataset, number: int, reason: str, *, dry_run: bool) -> Clearing:
    """Let a suspect version be used, and all that hold the same rows. With `dry_run` only say what would happen.

    Raises NotFound for a version that is not there, FailedPrecondition for one that is not suspect.
    """
    versions = {version.number: version for version in await HistoryStore(tx).versions(dataset)}
    if number not in versions:
        raise NotFound(
            f"dataset {dataset.name!r} has no version {number}; its newest is {dataset.latest_version}",
            hint=f"holdtrue datasets show {dataset.name}",
        )
    if versions[number].status is not Status.SUSPECT:
        text = f"version {number} of dataset {dataset.name!r} is {versions[number].status}: there is nothing to clear"
        raise FailedPrecondition(text, reason="NOTHING_CHANGES")
    store = SuspicionStore(tx)
    known = await store.open(dataset.id)
    gone = [each for each in known if each.commits & versions[number].commits]
    left = [each for each in known if each not in gone]
    free = [
        v.number
        for v in versions.values()
        if v.status is Status.SUSPECT and not any(each.commits & v.commits for each in left)
    ]
    if not dry_run:
        await store.clear(dataset.id, gone, reason)
        await store.release(dataset.id, free, reason)
        for each in free:
            event = DatasetVersionCleared(dataset_id=dataset.id, name=dataset.name, version=each, reason=reason)
            tx.publish(event, aggregate_version=dataset.latest_version)
    commits = Ranges.of(span for each in gone for span in each.commits)
    return Clearing(free, commits, [expectation for each in gone for expectation in each.broken])


@dataclass(frozen=True)
class _Draft:
    """A version that is not stored yet, what is told about it, and what is new that makes it suspect."""

    version: Version
    published: DatasetVersionPublished
    suspicion: Suspicion | None


async def _save(tx: Transaction, dataset: Dataset, draft: _Draft) -> None:
    version = draft.published
    await HistoryStore(tx).add(dataset, draft.version, version)
    if draft.suspicion:
        await SuspicionStore(tx).add(dataset.id, draft.suspicion)
    tx.publish(version, aggregate_version=version.version)
    if version.broken:
        told = DatasetVersionSuspected(
            dataset_id=dataset.id, name=dataset.name, version=version.version, broken=version.broken
        )
        tx.publish(told, aggregate_version=version.version)


async def _drafted(  # noqa: PLR0913  what there is to say about a version
    tx: Transaction,
    dataset: Dataset,
    version: Version,
    reason: str,
    *,
    restores: int = 0,
    broken: Sequence[BrokenExpectation] = (),
    fresh: Ranges | None = None,
) -> _Draft:
    """Describe a version: suspect where its `fresh` rows (None: all) do not meet something, or older rows did not."""
    new = Suspicion(version.number, version.commits if fresh is None else fresh, tuple(broken)) if broken else None
    known = await SuspicionStore(tx).open(dataset.id)
    held = [each for each in (*known, *([new] if new else [])) if each.commits & version.commits]
    marked = replace(version, status=Status.SUSPECT) if held else version
    holding = await HistoryStore(tx).holding(dataset.id, version.commits)
    bounds = (holding.from_us, holding.to_us) if holding.to_us is not None else (dataset.from_us, dataset.to_us)
    told = published(
        dataset,
        marked,
        holding.rows,
        (bounds[0] or 0, bounds[1] or 0),
        reason,
        restores,
        [expectation for each in held for expectation in each.broken],
    )
    return _Draft(marked, told, new)


async def _of_batches(store: HistoryStore, dataset: Dataset, batch_ids: Sequence[str]) -> Ranges:
    found = await store.commits_of(dataset.id, batch_ids)
    if missing := [batch for batch in batch_ids if batch not in found]:
        raise InvalidArgument.of(
            "batch_ids", f"dataset {dataset.name!r} has ingested no batch {missing[0][:200]!r} ({len(missing)} unknown)"
        )
    return Ranges.of((number, number) for number in found.values())


async def models_of(tx: Transaction, dataset: Dataset, versions: Sequence[int]) -> list[str]:
    """Return the models that were trained on some versions, as name@version."""
    found: set[str] = set()
    for number in versions:
        edges = await LineageStore(tx).around(dataset_version_node(dataset.name, number))
        found |= {edge.target.id for edge in edges if edge.target.kind == MODEL_VERSION}
    return sorted(found)


def _flag(dataset: Dataset, old: Version, bad: Ranges, reason: str, successor: int) -> DatasetVersionRetracted:
    return DatasetVersionRetracted(
        dataset_id=dataset.id,
        name=dataset.name,
        version=old.number,
        commits=commit_ranges(old.commits & bad),
        reason=reason,
        successor=successor,
    )


def _now() -> datetime:
    return datetime.now(UTC)
