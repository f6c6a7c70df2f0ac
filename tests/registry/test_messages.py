from __future__ import annotations

import pytest
from aiokafka import ConsumerRecord
from holdtrue_contracts.actor import service_actor
from holdtrue_contracts.codec import encode, new_event
from holdtrue_contracts.registry.v1.datasets_pb2 import RecordsOffered
from holdtrue_registry.workers.messages import read


@pytest.mark.parametrize(
    ("batch_id", "dataset_id", "reason"),
    [
        ("b", "d", ""),
        ("", "d", "no_batch_id"),
        ("b\0", "d", "bad_batch_id"),
        ("b" * 201, "d", "bad_batch_id"),
        ("b", "d\n", "bad_dataset_id"),
        ("b" * 200, "d" * 201, "bad_dataset_id"),
    ],
)
def test_ids_that_cannot_be_kept_are_told(batch_id: str, dataset_id: str, reason: str) -> None:
    offered = RecordsOffered(batch_id=batch_id, dataset_id=dataset_id)
    record = encode(new_event(offered, source="test", actor=service_actor("test")))
    message = read(
        ConsumerRecord(
            topic=record.topic,
            partition=0,
            offset=0,
            timestamp=0,
            timestamp_type=0,
            key=record.key,
            value=record.value,
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=0,
            headers=record.headers,
        )
    )
    assert message.reason == reason
    assert bool(message.event) is not bool(reason)
