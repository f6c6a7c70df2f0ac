"""Which label counts, and which is refused."""

import math
import random

import numpy as np
import pytest
from holdtrue_contracts.columns import pack, pack_texts
from holdtrue_contracts.ids import uuid7_bytes
from holdtrue_contracts.monitor.v1.labels_pb2 import LabelsObserved
from holdtrue_contracts.prediction_id import parse, text
from holdtrue_monitor.domain import labels
from holdtrue_monitor.domain.buckets import Labelled, Place
from holdtrue_monitor.domain.labels import Label, Malformed
from hypothesis import given
from hypothesis import strategies as st

REQUEST = uuid7_bytes(1_800_000_000 * 10**9)
FLAGGED = text(REQUEST, 7 << 34 | 1 << 22 | 4095 << 10)


def label(**values: object) -> Label:
    default = {
        "prediction_id": FLAGGED,
        "external_id": "",
        "value": 1.0,
        "revision": 0,
        "observed_ns": 5,
        "event_id": "e",
    }
    return Label(**(default | values))  # type: ignore[arg-type]


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0, math.nan]), st.integers(0, 3), st.integers(0, 3), st.sampled_from("ab")),
        min_size=1,
    ),
    st.integers(0, 1000),
)
def test_the_same_label_wins_in_any_order(rows: list[tuple[float, int, int, str]], seed: int) -> None:
    all_labels = [label(value=v, revision=r, observed_ns=o, event_id=e) for v, r, o, e in rows]
    shuffled = random.Random(seed).sample(all_labels, len(all_labels))  # noqa: S311  shuffles
    found: list[Label | None] = [None, None]
    for i, order in enumerate((all_labels, shuffled * 2)):
        for one in order:
            found[i] = labels.winner(found[i], one)
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].order == found[1].order


def test_a_label_counts_where_its_prediction_was_counted() -> None:
    where = labels.cell(parse(FLAGGED), "r", 60 * 10**9)
    assert where == labels.Cell(Place("r", 0, 1_800_000_000 * 10**9), 1, 1023)
    counts = Labelled.empty()
    labels.count(counts, where, 1.0, 1)
    labels.count(counts, where, math.nan, 1)
    assert counts.cells[1, 1, 1023] == counts.cells.sum() == 1
    labels.count(counts, where, 1.0, -1)
    labels.count(counts, where, 0.0, 1)
    assert counts.cells[1, 0, 1023] == np.abs(counts.cells).sum() == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prediction_id": ""}, "one of them"),
        ({"external_id": "x"}, "one of them"),
        ({"value": 2.0}, "0 or 1, got 2"),
        ({"revision": -1}, "0 or higher"),
        ({"prediction_id": "abc"}, "a prediction id is"),
        ({"prediction_id": text(uuid7_bytes(5 * 10**18), 0)}, "beyond the year 2100"),
        ({"prediction_id": text(REQUEST, 2 << 22)}, "not of a binary model"),
        ({"prediction_id": "", "external_id": "a\0b"}, "external id: expected at most 128 printable ASCII"),
        ({"prediction_id": "", "external_id": "x" * 129}, "external id: expected at most 128 printable ASCII"),
        ({"prediction_id": "", "external_id": "x" * 128}, ""),
        ({}, ""),
        ({"value": math.nan}, ""),
    ],
)
def test_faulty_labels_say_why(values: dict[str, object], message: str) -> None:
    assert message in labels.fault(label(**values))
    assert bool(labels.fault(label(**values))) == bool(message)


def test_good_labels_of_a_record_are_read_and_the_others_are_told() -> None:
    record = LabelsObserved(
        prediction_ids=pack_texts([FLAGGED, "abc", ""]),
        external_ids=pack_texts(["", "", "order"]),
        labels=pack(np.array([1.0, 0.0, math.nan])),
    )
    good, faults = labels.read(record, "event")
    assert [(one.prediction_id, one.external_id, one.event_id) for one in good] == [
        (FLAGGED, "", "event"),
        ("", "order", "event"),
    ]
    assert len(faults) == 1
    assert faults[0].startswith("label 1: ")


@pytest.mark.parametrize(
    "record",
    [
        LabelsObserved(labels=pack(np.zeros(2)), prediction_ids=pack_texts(["a"])),
        LabelsObserved(labels=pack(np.zeros(2, np.int64))),
        LabelsObserved(labels=pack(np.zeros(1)), revisions=pack(np.zeros(2, np.int64))),
        LabelsObserved(),
    ],
)
def test_records_that_contradict_themselves_are_refused(record: LabelsObserved) -> None:
    with pytest.raises(Malformed):
        labels.read(record, "event")
