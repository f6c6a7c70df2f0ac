"""The door for labels: checks them, and answers once all are in Kafka."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from aiokafka.errors import KafkaError
from holdtrue_contracts.codec import encode, new_event
from holdtrue_contracts.columns import pack, pack_texts
from holdtrue_contracts.monitor.v1.labels_pb2 import LabelsObserved
from holdtrue_contracts.prediction_id import label_shard, parse, verify
from holdtrue_core.errors import FieldViolation, InvalidArgument, ResourceExhausted, Unavailable
from holdtrue_events.kafka import abort

from holdtrue_monitor.domain.labels import Label, fault
from holdtrue_monitor.store.catalog import CatalogStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aiokafka import AIOKafkaProducer
    from holdtrue_contracts.actor import Actor
    from holdtrue_contracts.codec import Record
    from holdtrue_events.kafka import Kafka
    from holdtrue_events.outbox import Outbox

_SOURCE = "holdtrue/monitor"
_MOST_LABELS = 10_000
_MOST_FAULTS = 20
_MOST_CALLS = 64
_SECONDS, _STOP_SECONDS = 20.0, 5.0


class Gateway:
    """Takes labels, all or none of a call."""

    name = "label gateway"

    def __init__(self, outbox: Outbox, kafka: Kafka) -> None:
        """Send to this Kafka; it may be away at the start."""
        self._outbox = outbox
        self._kafka = kafka
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._sending: set[asyncio.Future[object]] = set()
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Nothing to prepare."""

    async def run(self) -> None:
        """Wait for the stop."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Send what is in hand, unless Kafka is away."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=_STOP_SECONDS)
        if self._producer is not None:
            await abort(self._producer)
        self._stopped.set()

    async def record(self, labels: Sequence[Label], actor: Actor) -> None:
        """Put labels into Kafka.

        Raises InvalidArgument, with the faults, if one of them is wrong; Unavailable if Kafka does not confirm in time:
        repeat the call then, a label that comes twice counts once.
        """
        await self._check(labels, actor)
        if len(self._sending) >= _MOST_CALLS:
            raise ResourceExhausted("too many labels are on their way to Kafka; try again later", reason="LABELS_WAIT")
        try:
            async with asyncio.timeout(_SECONDS):
                sends = [asyncio.ensure_future(self._send(record)) for record in _records(labels, actor)]
                self._sending.update(sends)
                for send in sends:
                    send.add_done_callback(self._sending.discard)
                await asyncio.gather(*map(asyncio.shield, sends))
        except (KafkaError, TimeoutError) as error:
            text = f"Kafka does not confirm the labels ({type(error).__name__}); send them again"
            raise Unavailable(text, reason="KAFKA_UNAVAILABLE") from error

    async def _check(self, labels: Sequence[Label], actor: Actor) -> None:
        if len(labels) > _MOST_LABELS:
            raise InvalidArgument.of("labels", f"at most {_MOST_LABELS} in a call, got {len(labels)}")
        faults = [(i, text) for i, label in enumerate(labels) if (text := fault(label))]
        if not faults:
            faults = await self._forged(labels, actor)
        if faults:
            violations = [FieldViolation(f"labels[{i}]", text) for i, text in faults[:_MOST_FAULTS]]
            first = f"labels[{faults[0][0]}]: {faults[0][1]}"
            text = f"{len(faults)} of {len(labels)} labels are wrong, none was recorded; the first: {first}"
            raise InvalidArgument(text, violations=violations)

    async def _forged(self, labels: Sequence[Label], actor: Actor) -> list[tuple[int, str]]:
        """Prediction ids whose check is wrong; those of a revision that is not known here yet are believed."""
        ids = [(i, parse(label.prediction_id)) for i, label in enumerate(labels) if label.prediction_id]
        if not ids:
            return []
        async with self._outbox.transaction(actor) as tx:
            slots = await CatalogStore(tx).slots({prediction.tail.slot for _, prediction in ids})
        return [
            (i, f"prediction id {labels[i].prediction_id} was never given out: its check is wrong; was it mistyped?")
            for i, prediction in ids
            if (slot := slots.get(prediction.tail.slot)) and not verify(prediction, slot.id_key)
        ]

    async def _send(self, record: Record) -> object:
        producer = await self._started()
        topic = self._kafka.topic(record.topic)
        return await producer.send_and_wait(topic, record.value, record.key, headers=list(record.headers))

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = self._kafka.producer()
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer


def _records(labels: Iterable[Label], actor: Actor) -> Iterator[Record]:
    """Labels by shard: all of one prediction meet in one partition."""
    shards: defaultdict[int, list[Label]] = defaultdict(list)
    for label in labels:
        shards[label_shard(label.external_id or label.prediction_id.partition("/")[0])].append(label)
    for shard, some in shards.items():
        observed = LabelsObserved(
            shard=str(shard),
            prediction_ids=pack_texts([label.prediction_id for label in some]),
            external_ids=pack_texts([label.external_id for label in some]),
            labels=pack(np.array([label.value for label in some], np.float64)),
            revisions=pack(np.array([label.revision for label in some], np.int64)),
            observed_ns=pack(np.array([label.observed_ns for label in some], np.int64)),
        )
        yield encode(new_event(observed, source=_SOURCE, actor=actor))
