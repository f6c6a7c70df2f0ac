from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.codec import Event, MalformedEvent, UnknownEventType, decode, encode, new_event
from holdtrue_contracts.common.v1.columns_pb2 import Column
from holdtrue_contracts.trainer.v1.runs_pb2 import RunFailed
from hypothesis import given
from hypothesis import strategies as st

TIME = datetime(2026, 7, 28, 12, 34, 56, 789012, UTC)
ACTOR = Actor("default", "Zoë", ActorKind.PERSON, ("operator",))
DATA = RunFailed(model_id="modèle", run_id="r1", message="no rows")
EVENT = new_event(
    DATA, source="holdtrue/trainer", actor=ACTOR, time=TIME, event_id="e1", aggregate_version=7, traceparent="00-a-b-01"
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

Headers = dict[str, bytes]


def headers_of(event: Event[RunFailed] = EVENT) -> Headers:
    return {name: value or b"" for name, value in encode(event).headers}


def decode_with(
    headers: Headers, key: bytes | None = encode(EVENT).key, value: bytes | None = encode(EVENT).value
) -> Event[Message]:
    return decode(key, value, list(headers.items()))


def test_the_record_is_pinned() -> None:
    record = encode(EVENT)
    assert (record.topic, record.key, record.value) == (
        "runs.v1",
        "default/modèle".encode(),
        DATA.SerializeToString(),
    )
    assert dict(record.headers) == {
        "content-type": b"application/protobuf",
        "ce_specversion": b"1.0",
        "ce_id": b"e1",
        "ce_source": b"holdtrue/trainer",
        "ce_type": b"holdtrue.trainer.v1.RunFailed",
        "ce_time": b"2026-07-28T12:34:56.789012Z",
        "ce_subject": "modèle".encode(),
        "ce_tenant": b"default",
        "ce_actor": b"default/person/Zo%C3%AB/operator",
        "ce_aggregateversion": b"7",
        "traceparent": b"00-a-b-01",
    }


texts = st.text(st.characters(codec="utf-8", min_codepoint=1), min_size=1, max_size=256)


@given(
    texts,
    texts,
    st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1)),  # noqa: DTZ001
    st.none() | st.integers(0, 10**18 - 1),
)
def test_events_come_back_as_they_were(subject: str, tenant: str, time: datetime, version: int | None) -> None:
    event = replace(
        EVENT,
        subject=subject,
        actor=replace(ACTOR, tenant=tenant),
        time=time,
        aggregate_version=version,
        traceparent=None,
    )
    record = encode(event)
    assert decode(record.key, record.value, record.headers) == event


def test_a_new_event_is_of_now_about_its_key_with_an_id_of_its_own() -> None:
    first, second = (new_event(DATA, source="s", actor=ACTOR) for _ in range(2))
    assert first.id < second.id
    assert abs(datetime.now(UTC) - first.time) < timedelta(seconds=5)
    assert first.subject == DATA.model_id
    assert first.tenant == "default"
    assert first.aggregate_version is first.traceparent is None


class Bytes(JSONFormat):
    """The SDK's hook for a payload that it is not to touch."""

    def write_data(self, data: dict[str, Any] | str | bytes | None, datacontenttype: str | None) -> bytes:
        assert datacontenttype == "application/protobuf"
        assert isinstance(data, bytes)
        return data

    def read_data(self, body: bytes, datacontenttype: str | None) -> bytes:
        assert datacontenttype == "application/protobuf"
        return body


def test_the_official_sdk_reads_what_we_write() -> None:
    record = encode(EVENT)
    assert record.value is not None
    event = from_binary(KafkaMessage(headers_of(), record.key, record.value), Bytes(), CloudEvent)
    assert event.get_attributes() == {
        "specversion": "1.0",
        "id": "e1",
        "source": "holdtrue/trainer",
        "type": "holdtrue.trainer.v1.RunFailed",
        "time": TIME,
        "subject": "modèle",
        "datacontenttype": "application/protobuf",
        "tenant": "default",
        "actor": "default/person/Zo%C3%AB/operator",
        "aggregateversion": "7",
        "partitionkey": "default/modèle",
    }
    data = event.get_data()
    assert isinstance(data, bytes)
    assert RunFailed.FromString(data) == DATA


def test_we_read_what_the_official_sdk_writes() -> None:
    attributes = {
        "specversion": "1.0",
        "id": "e2",
        "source": "elsewhere",
        "type": "holdtrue.trainer.v1.RunFailed",
        "time": TIME.astimezone(timezone(timedelta(hours=2))),
        "subject": "s",
        "datacontenttype": "application/protobuf",
        "tenant": "default",
        "actor": ACTOR.to_header().decode(),
        "partitionkey": "default/modèle",
    }
    message = to_binary(CloudEvent(attributes, DATA.SerializeToString()), Bytes())
    key = message.key.encode() if isinstance(message.key, str) else message.key
    event = decode(key, message.value, list(message.headers.items()))
    assert event == Event("e2", "holdtrue.trainer.v1.RunFailed", "elsewhere", TIME, "s", ACTOR, None, None, DATA)
    assert event.time.utcoffset() == timedelta()


def test_only_events_can_be_encoded() -> None:
    with pytest.raises(TypeError, match="not an event"):
        new_event(Column(), source="s", actor=ACTOR)


@pytest.mark.parametrize(
    "name",
    [name for name in headers_of() if name.startswith("ce_") and name not in {"ce_subject", "ce_aggregateversion"}],
)
@pytest.mark.parametrize("value", [None, b""], ids=["missing", "empty"])
def test_every_required_header_is_missed(name: str, value: bytes | None) -> None:
    headers = headers_of() | ({} if value is None else {name: value})
    if value is None:
        del headers[name]
    with pytest.raises(MalformedEvent, match=name) as caught:
        decode_with(headers)
    assert caught.value.code == "missing_header"


@pytest.mark.parametrize(
    ("name", "value", "code", "said"),
    [
        ("ce_specversion", b"0.3", "bad_specversion", "expected 1.0, got '0.3'"),
        ("content-type", b"application/json", "bad_content_type", "application/protobuf, got 'application/json'"),
        ("ce_time", b"yesterday", "bad_header", "expected RFC 3339, got 'yesterday'"),
        ("ce_time", b"2026-01-01T00:00:00", "bad_header", "expected a time zone"),
        ("ce_actor", b"somebody", "bad_header", "tenant/kind/name/roles"),
        ("ce_tenant", b"other", "bad_header", "expected 'default', got 'other'"),
        ("ce_aggregateversion", b"seven", "bad_header", "expected a number, got 'seven'"),
        ("ce_aggregateversion", b"9" * 5000, "bad_header", "ce_aggregateversion: at most 18 characters, got 5000"),
        ("ce_time", b"0001-01-01T00:00:00+14:00", "bad_header", "expected RFC 3339"),
        ("ce_id", b"i" * 257, "bad_header", "ce_id: at most 256 characters, got 257"),
        ("ce_tenant", b"t" * 257, "bad_header", "ce_tenant: at most 256 characters, got 257"),
        ("ce_id", b"a\0b", "bad_header", r"ce_id: expected text without NUL, got 'a\\x00b'"),
        ("ce_subject", b"\xff", "bad_header", "expected UTF-8"),
        ("holdtrue_unreadable", b"broken beyond repair", "unreadable", "broken beyond repair"),
    ],
)
def test_a_broken_header_is_named(name: str, value: bytes, code: str, said: str) -> None:
    with pytest.raises(MalformedEvent, match=said) as caught:
        decode_with(headers_of() | {name: value})
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("key", "value", "code", "said"),
    [
        (b"default/x", DATA.SerializeToString(), "bad_key", "by tenant and model_id"),
        (None, DATA.SerializeToString(), "bad_key", "got None"),
        (encode(EVENT).key, None, "no_value", "no value"),
        (encode(EVENT).key, b"\xff\xff", "bad_payload", "2 bytes are not a holdtrue.trainer.v1.RunFailed"),
    ],
)
def test_broken_records_are_refused(key: bytes | None, value: bytes | None, code: str, said: str) -> None:
    with pytest.raises(MalformedEvent, match=said) as caught:
        decode_with(headers_of(), key, value)
    assert caught.value.code == code


def test_a_header_without_a_value_counts_as_missing() -> None:
    key, value, headers = encode(EVENT).key, encode(EVENT).value, list(headers_of().items())
    assert decode(key, value, [*headers, ("foreign", None)]) == EVENT
    with pytest.raises(MalformedEvent, match="ce_id") as caught:
        decode(key, value, [(name, None if name == "ce_id" else text) for name, text in headers])
    assert caught.value.code == "missing_header"


def test_an_unknown_type_is_told_apart_from_a_malformed_event() -> None:
    with pytest.raises(UnknownEventType, match=r"holdtrue\.trainer\.v9\.New") as caught:
        decode_with(headers_of() | {"ce_type": b"holdtrue.trainer.v9.New"})
    assert caught.value.name == "holdtrue.trainer.v9.New"


def test_fields_that_only_a_newer_program_knows_survive() -> None:
    unknown = bytes([0xFA, 0x3E, 3]) + b"new"  # field 1007, three bytes
    event = decode_with(headers_of(), value=DATA.SerializeToString() + unknown)
    assert encode(event).value == DATA.SerializeToString() + unknown
