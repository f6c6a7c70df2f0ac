from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor
from holdtrue_contracts import catalogue
from holdtrue_contracts.common.v1.columns_pb2 import Column
from holdtrue_contracts.registry.v1.datasets_pb2 import RecordsOffered
from holdtrue_contracts.trainer.v1.runs_pb2 import RunSucceeded

PROTOS = Path(__file__).parents[2] / "protos" / "holdtrue_contracts"


@pytest.mark.parametrize("event", catalogue.EVENTS.values(), ids=lambda e: e.name)
def test_every_event_names_a_known_topic_and_a_text_field_of_its_own_as_key(event: catalogue.EventType) -> None:
    assert event.topic in catalogue.TOPICS
    field = event.message.DESCRIPTOR.fields_by_name[event.key_field]
    assert field.type == FieldDescriptor.TYPE_STRING
    assert not field.is_repeated


def test_the_catalogue_has_every_event_of_the_protos() -> None:
    declared = sum(
        len(re.findall(r"option \(holdtrue\.options\.v1\.event\)", file.read_text()))
        for file in PROTOS.rglob("*.proto")
    )
    assert len(catalogue.EVENTS) == declared > 20


def test_every_topic_but_the_dead_letters_has_events() -> None:
    used = {event.topic for event in catalogue.EVENTS.values()}
    assert used == catalogue.TOPICS.keys() - {catalogue.DEAD_LETTERS}


def test_topics_are_as_the_design_lists_them() -> None:
    compacted = {topic.name for topic in catalogue.TOPICS.values() if topic.cleanup == "compact"}
    assert compacted == {"deployments.v1", "replicas.v1", "alert-state.v1"}
    assert all(topic.retention is None for topic in catalogue.TOPICS.values() if topic.cleanup == "compact")
    assert {name: topic.partitions for name, topic in catalogue.TOPICS.items() if topic.partitions != 3} == {
        "data.v1": 6,
        "predictions.v1": 12,
        "labels.v1": 12,
    }
    days = {name: topic.retention.days for name, topic in catalogue.TOPICS.items() if topic.retention}
    assert days["predictions.v1"] == days["data.v1"] == 7
    assert days["labels.v1"] == days[catalogue.DEAD_LETTERS] == 30


def test_an_event_is_found_by_message_and_by_class() -> None:
    expected = catalogue.EventType("holdtrue.trainer.v1.RunSucceeded", RunSucceeded, "runs.v1", "model_id")
    assert catalogue.of(RunSucceeded) == catalogue.of(RunSucceeded(model_id="m")) == expected


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(TypeError, match=r"holdtrue\.common\.v1\.Column is not an event"):
        catalogue.of(Column)


def test_keys_carry_the_tenant() -> None:
    assert catalogue.key("default", "zoë") == "default/zoë".encode()
    assert catalogue.of(RecordsOffered).key_field == "dataset_id"
