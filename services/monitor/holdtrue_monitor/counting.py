"""What the folds make of predictions and of labels."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_contracts.monitor.v1.labels_pb2 import LabelsObserved
from holdtrue_contracts.prediction_id import parse, verify

from holdtrue_monitor.domain import labels, predictions
from holdtrue_monitor.domain.buckets import Labelled, Served
from holdtrue_monitor.domain.labels import Label
from holdtrue_monitor.fold import NotYet
from holdtrue_monitor.store.catalog import CatalogStore
from holdtrue_monitor.store.folds import FoldStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from holdtrue_events.outbox import Transaction

    from holdtrue_monitor.domain.buckets import Place
    from holdtrue_monitor.domain.predictions import Named, Rows
    from holdtrue_monitor.domain.reference import Reference
    from holdtrue_monitor.fold import Item, Reject, StreamRecord
    from holdtrue_monitor.references import Found, References
    from holdtrue_monitor.store.catalog import Slot
    from holdtrue_monitor.store.folds import Owned

    Sourced = tuple[StreamRecord, Label]

_FAULTS_TOLD = 5


Revision = tuple[str, str, int]
"""Deployment, revision, model version."""


class _Read(NamedTuple):
    """A record of predictions that was counted."""

    item: Item[PredictionsServed]
    rows: Rows


class PredictionEffect:
    """Counts predictions into the buckets of their windows."""

    topic = "predictions.v1"
    message = PredictionsServed

    def __init__(self, references: References, window_ns: int) -> None:
        """Count by windows of this length."""
        self._references = references
        self._window_ns = window_ns

    async def apply(
        self, tx: Transaction, items: Sequence[Item[PredictionsServed]], reject: Reject, *, final: bool
    ) -> None:
        """Count new records; external ids meet the labels that wait for them."""
        store = FoldStore(tx)
        last = await store.spools({i.record.partition for i in items}, {i.event.data.spool_id for i in items})
        new = [item for item in items if item.replayed or _is_new(item, last)]
        found = await self._find(tx, {_revision(item) for item in new}, final=final)
        counts: dict[Owned, Served] = {}
        read, faults = await asyncio.to_thread(self._count, new, found, counts)
        for item, reason, message in faults:
            await reject(item.record, reason, message)
        await _fix(tx, read, found)
        await store.add_served(counts)
        await store.put_spools(last)
        await store.put_watermarks(_latest(read))
        await _name(tx, read, self._window_ns)
        await store.touch((place for _, place in counts), self._window_ns)

    async def _find(self, tx: Transaction, revisions: Iterable[Revision], *, final: bool) -> dict[Revision, Found]:
        found: dict[Revision, Found] = {}
        for revision in revisions:
            reference = await self._references.find(tx, *revision)
            if reference:
                found[revision] = reference
            elif not final:
                raise NotYet(_unknown(revision))
        return found

    def _count(
        self, items: Sequence[Item[PredictionsServed]], found: Mapping[Revision, Found], counts: dict[Owned, Served]
    ) -> tuple[list[_Read], list[tuple[Item[PredictionsServed], str, str]]]:
        """Add the items to `counts`; return those that were counted, and the others with what is wrong with them."""
        read: list[_Read] = []
        faults: list[tuple[Item[PredictionsServed], str, str]] = []
        for item in items:
            origin = found.get(_revision(item))
            if origin is None:
                faults.append((item, "unknown_origin", _unknown(_revision(item))))
                continue
            try:
                rows = predictions.read(item.event.data, origin.reference, _nanoseconds(item.event.time))
            except predictions.Malformed as error:
                faults.append((item, "malformed", str(error)))
                continue
            self._add(item, rows, origin.reference, counts)
            read.append(_Read(item, rows))
        return read, faults

    def _add(
        self, item: Item[PredictionsServed], rows: Rows, reference: Reference, counts: dict[Owned, Served]
    ) -> None:
        def bucket(place: Place) -> Served:
            owned = item.record.partition, place
            if owned not in counts:
                counts[owned] = Served.empty(reference.edges)
            return counts[owned]

        predictions.count(item.event.data, rows, reference, self._window_ns, bucket)


class LabelEffect:
    """Counts labels where their predictions are counted."""

    topic = "labels.v1"
    message = LabelsObserved

    def __init__(self, window_ns: int) -> None:
        """Count by windows of this length."""
        self._window_ns = window_ns

    async def apply(
        self, tx: Transaction, items: Sequence[Item[LabelsObserved]], reject: Reject, *, final: bool
    ) -> None:
        """Count new labels. A record with faulty labels becomes a dead letter, too; its good ones count."""
        faults: defaultdict[StreamRecord, list[str]] = defaultdict(list)
        read: list[Sourced] = []
        for item in items:
            try:
                good, faults[item.record] = labels.read(item.event.data, item.event.id)
            except labels.Malformed as error:
                await reject(item.record, "malformed", str(error))
                continue
            read += [(item.record, label) for label in good]
        named = await _resolve(tx, read)
        slots = await _slots(tx, (label for _, label in named))
        counted: list[tuple[int, Label]] = []
        for record, label in named:
            fault = _fault(label, slots)
            if fault and not final and _slot(label) not in slots:
                raise NotYet(fault)
            if fault:
                faults[record].append(fault)
            else:
                counted.append((record.partition, label))
        for record, texts in faults.items():
            if texts:
                await reject(record, "faulty_labels", _told(texts))
        await count_labels(tx, counted, slots, self._window_ns)


async def count_labels(
    tx: Transaction, found: Sequence[tuple[int, Label]], slots: Mapping[int, Slot], window_ns: int
) -> None:
    """Let each label count if it wins, instead of the one that counted before."""
    winners: dict[str, tuple[int, Label]] = {}
    for partition, label in found:
        before = winners.get(label.prediction_id)
        if before is None or label.order > before[1].order:
            winners[label.prediction_id] = (partition, label)
    if not winners:
        return
    store = FoldStore(tx)
    stored = await store.lock_labels(winners)
    changed: list[tuple[Label, str]] = []
    counts: defaultdict[Owned, Labelled] = defaultdict(Labelled.empty)
    for prediction_id, (partition, label) in winners.items():
        if label.order <= stored[prediction_id].order:
            continue
        prediction = parse(prediction_id)
        cell = labels.cell(prediction, slots[prediction.tail.slot].revision, window_ns)
        labels.count(counts[partition, cell.place], cell, stored[prediction_id].value, -1)
        labels.count(counts[partition, cell.place], cell, label.value, 1)
        changed.append((label, cell.place.revision))
    if changed:
        await store.put_labels(changed)
        await store.add_labelled(counts)
        await store.touch((place for _, place in counts), window_ns)


async def _resolve(tx: Transaction, read: Sequence[Sourced]) -> list[Sourced]:
    """Replace external ids by prediction ids; labels whose prediction has not come yet are left waiting."""
    externals = {label.external_id for _, label in read if label.external_id}
    if not externals:
        return list(read)
    store = FoldStore(tx)
    met = await store.meet(externals)
    waiting: dict[str, Label] = {}
    named: list[Sourced] = []
    for record, label in read:
        prediction_id = met[label.external_id].prediction_id if label.external_id else label.prediction_id
        if prediction_id:
            named.append((record, _of(label, prediction_id)))
        else:
            before = waiting.get(label.external_id) or met[label.external_id].waiting
            waiting[label.external_id] = labels.winner(before, label)
    if waiting:
        await store.wait(waiting.values())
    return named


async def _name(tx: Transaction, read: Sequence[_Read], window_ns: int) -> None:
    """Let external ids mean their predictions, and count the labels that waited for them."""
    latest: dict[str, tuple[int, Named]] = {}
    for item, rows in read:
        for named in rows.named:
            before = latest.get(named.external_id)
            if before is None or before[1].time_ns <= named.time_ns:
                latest[named.external_id] = (item.record.partition, named)
    if not latest:
        return
    store = FoldStore(tx)
    met = await store.meet(latest)
    await store.name([named for _, named in latest.values()])
    found = [
        (-1 - partition, _of(waiting, named.prediction_id))
        for name, (partition, named) in latest.items()
        if (waiting := met[name].waiting)
    ]
    await count_labels(tx, found, await _slots(tx, (label for _, label in found)), window_ns)


async def _fix(tx: Transaction, read: Sequence[_Read], found: Mapping[Revision, Found]) -> None:
    """Decide for good what the counts of revisions that are new here are binned by."""
    new = {_revision(item): rows.slot for item, rows in read if not found[_revision(item)].fixed}
    for revision, slot in new.items():
        decided = await CatalogStore(tx).fix(*revision, slot, found[revision].digest)
        if decided != found[revision].digest:
            raise NotYet(f"the reference of revision {revision[1]} was decided meanwhile")


async def _slots(tx: Transaction, found: Iterable[Label]) -> dict[int, Slot]:
    return await CatalogStore(tx).slots({_slot(label) for label in found})


def _is_new(item: Item[PredictionsServed], last: dict[tuple[int, str], int]) -> bool:
    """Whether the record is beyond its spool's last one in this partition; takes note of it."""
    key = item.record.partition, item.event.data.spool_id
    if item.event.data.sequence <= last.get(key, 0):
        return False
    last[key] = item.event.data.sequence
    return True


def _latest(read: Sequence[_Read]) -> dict[int, int]:
    latest: dict[int, int] = {}
    for item, rows in read:
        partition = item.record.partition
        latest[partition] = max(latest.get(partition, 0), rows.latest_ns)
    return latest


def _of(label: Label, prediction_id: str) -> Label:
    return Label(prediction_id, "", label.value, label.revision, label.observed_ns, label.event_id)


def _slot(label: Label) -> int:
    return parse(label.prediction_id).tail.slot


def _revision(item: Item[PredictionsServed]) -> Revision:
    record = item.event.data
    return record.deployment_id, record.revision, record.model_version


def _unknown(revision: Revision) -> str:
    return f"deployment {revision[0]} with model version {revision[2]} is not known"


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp() * 1e6) * 1000


def _fault(label: Label, slots: Mapping[int, Slot]) -> str:
    """What is wrong with the prediction id, empty if nothing."""
    prediction = parse(label.prediction_id)
    slot = slots.get(prediction.tail.slot)
    if slot is None:
        return f"no revision here made prediction {label.prediction_id}: its slot {prediction.tail.slot} is unknown"
    if not verify(prediction, slot.id_key):
        return f"prediction id {label.prediction_id} was never given out: its check is wrong"
    return ""


def _told(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _FAULTS_TOLD} more" if len(texts) > _FAULTS_TOLD else ""
    return f"{len(texts)} faulty labels: " + "; ".join(texts[:_FAULTS_TOLD]) + more
