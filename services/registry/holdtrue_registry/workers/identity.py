"""Which topic is this, really? A topic that was deleted and made again has its old name and a new id.

aiokafka does not expose topic ids, so this asks for them with one Metadata request of version 12, laid out as in the
protocol's public description (KIP-516).
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

if TYPE_CHECKING:
    from io import BytesIO

    from aiokafka import AIOKafkaConsumer


class _Uuid(AbstractType[uuid.UUID]):
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


_TEXT = CompactString("utf-8")
_NUMBERS = CompactArray(Int32)


class _MetadataResponse(Response):
    API_KEY = 3  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]  as aiokafka's own do
    API_VERSION = 12  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields)),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", _NUMBERS),
                        ("in_sync", _NUMBERS),
                        ("offline", _NUMBERS),
                        ("tags", TaggedFields),
                    ),
                ),
                ("operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequestV12(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestV12]):
    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequestV12]) -> _MetadataRequestV12:
        return request_struct_class([(uuid.UUID(int=0), self._topic, {})], False, False, {})


@dataclass(frozen=True)
class TopicIdentity:
    """Cluster and topic, each by the id that is never given twice."""

    cluster_id: str
    topic_id: str


async def topic_identity(consumer: AIOKafkaConsumer, topic: str) -> TopicIdentity:
    """Ask a broker; raises KafkaError where none answers or the topic does not exist."""
    client: Any = cast("Any", consumer)._client  # noqa: SLF001  the only way to send a request of one's own
    node = random.choice([broker.nodeId for broker in client.cluster.brokers()])  # noqa: S311  no secret
    answer: Any = await client.send(node, _MetadataRequest(topic))
    for error_code, _name, topic_id, *_ in answer.topics:
        if error_code:
            raise for_code(error_code)(f"topic {topic}: create the platform's topics first")
        return TopicIdentity(answer.cluster_id, str(topic_id))
    raise UnknownTopicOrPartitionError(f"topic {topic}: create the platform's topics first")
