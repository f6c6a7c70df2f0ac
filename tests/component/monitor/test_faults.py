"""Kills, rebalances and records that Kafka removed."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from holdtrue_contracts.monitor.v1.monitor_service_pb2 import ListAlertsRequest
from holdtrue_events.topics import ensure

from tests.component.monitor.harness import PERSON, Inference, until
from tests.component.monitor.test_counting import settled, truth

if TYPE_CHECKING:
    from tests.component.monitor.harness import Batch, Platform, Service

KILLS = 6


@pytest.mark.timeout(240)
async def test_nothing_is_lost_or_counted_twice_while_processes_are_killed(platform: Platform) -> None:
    """Two monitors share the partitions; one of them is killed again and again while records keep coming."""
    await platform.serve()
    services = [await platform.start(), await platform.start()]
    inference, batches, labels = Inference(), [], dict[str, float]()
    killing = asyncio.Event()

    async def produce() -> None:
        while not killing.is_set():
            batch = inference.batch(30)
            await platform.publish(batch.message, batch.message.batch_id)
            if len(batches) % 5 == 0:  # its spool was not told
                await platform.publish(batch.message, batch.message.batch_id)
            some = truth([batch])
            await platform.label(list(some.items()))
            batches.append(batch)
            labels.update(some)
            await asyncio.sleep(0.02)

    async def progress() -> bool:
        before = (await platform.query("SELECT coalesce(sum(next_offset), 0) AS n FROM fold_offset"))[0]["n"]
        await asyncio.sleep(0.3)
        return (await platform.query("SELECT coalesce(sum(next_offset), 0) AS n FROM fold_offset"))[0]["n"] > before

    producing = asyncio.create_task(produce())
    for service in itertools.islice(itertools.cycle(services), KILLS):
        await until(progress, "records are counted")
        await service.kill()
        await service.start()
    killing.set()
    await producing
    for service in services:
        await service.ready()
    await settled(platform, batches, labels)
    dead = await platform.query("SELECT reason, message FROM dead_letter")
    assert not dead


async def test_what_kafka_removed_before_it_was_counted_raises_an_alarm(platform: Platform) -> None:
    await platform.serve()
    service = await platform.start()
    inference = Inference()
    before: list[Batch] = [inference.batch() for _ in range(24)]
    for batch in before:
        await platform.publish(batch.message)
    await settled(platform, before, {})
    await service.stop()
    positions = {
        row["partition"]: row["next_offset"]
        for row in await platform.query("SELECT * FROM fold_offset WHERE topic = 'predictions.v1' AND next_offset > 0")
    }
    partition = min(positions)
    topic = TopicPartition(platform.kafka.topic("predictions.v1"), partition)
    for _ in range(3):
        await platform.producer.send_and_wait(topic.topic, b"to be lost", partition=partition)
    admin = AIOKafkaAdminClient(bootstrap_servers=platform.kafka.bootstrap)
    await admin.start()
    await admin.delete_records({topic: RecordsToDelete(before_offset=positions[partition] + 3)})
    await admin.close()
    await service.start()
    await service.ready()
    after = [inference.batch() for _ in range(24)]
    for batch in after:
        await platform.publish(batch.message)
    await settled(platform, before + after, {})
    found = (await platform.alerts.ListAlerts(ListAlertsRequest(), metadata=PERSON)).alerts
    assert [alert.kind for alert in found] == ["fold.gap"]
    assert found[0].measure.value == 3
    assert "3 records" in found[0].title


async def test_a_group_formed_while_the_broker_knew_no_topics_reads_them_soon(platform: Platform) -> None:
    """A broker that has just started again answers before it knows its topics: the group divides nothing then."""
    admin = AIOKafkaAdminClient(bootstrap_servers=platform.kafka.bootstrap)
    await admin.start()
    await admin.delete_topics([platform.kafka.topic(name) for name in ("predictions.v1", "labels.v1")])
    await admin.close()
    await platform.serve()
    service = await platform.start()
    await until(lambda: said(service, "Ignoring missing topic"), "the group has divided nothing")
    await ensure(platform.kafka.bootstrap, platform.kafka.prefix)
    batches = [Inference().batch()]
    for batch in batches:
        await platform.publish(batch.message)
    labels = truth(batches)
    await platform.label(list(labels.items()))
    await settled(platform, batches, labels)


async def said(service: Service, text: str) -> bool:
    return text in service.log()
