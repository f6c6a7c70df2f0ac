"""From records of predictions to counts."""

import numpy as np
import pytest
from holdtrue_contracts.columns import pack, pack_texts, unpack
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_contracts.prediction_id import parse, split, verify
from holdtrue_monitor.domain import predictions
from holdtrue_monitor.domain.buckets import Place, Scores, Served
from holdtrue_monitor.domain.predictions import Malformed
from holdtrue_monitor.domain.reference import MalformedProfile, Reference, unknown
from holdtrue_monitor.domain.reference import parse as parse_profile
from holdtrue_monitor.domain.tails import fields_of
from holdtrue_monitor.domain.windows import closed
from holdtrue_stats.packing import PackingError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.monitor.examples import AT_NS, ID_KEY, profile, record

SECOND = 1_000_000_000
REFERENCE = parse_profile(profile().SerializeToString())


def counted(*records: PredictionsServed, reference: Reference = REFERENCE) -> dict[Place, Served]:
    buckets: dict[Place, Served] = {}

    def bucket(place: Place) -> Served:
        return buckets.setdefault(place, Served.empty(reference.edges))

    for one in records:
        rows = predictions.read(one, reference, AT_NS)
        predictions.count(one, rows, reference, 60 * SECOND, bucket)
    return buckets


def test_rows_land_in_the_window_of_their_request_id() -> None:
    late = AT_NS - AT_NS % (60 * SECOND) + 59_999_000_000
    found = counted(record(at_ns=late), record(at_ns=late + 1_000_000, segment=3))
    assert set(found) == {
        Place("r", 0, late - 59_999_000_000),
        Place("r", 3, late + 1_000_000),
        Place("r", 0, late + 1_000_000),  # requests are counted for the whole
    }
    served = found[Place("r", 0, late - 59_999_000_000)]
    assert served.features.n[0] == served.scores.score.sum() == 6
    assert served.scores.requests.tolist() == [3, 0, 0]
    assert served.scores.latency[9] == 3


def test_scores_are_counted_by_decision_and_code() -> None:
    one = record(200)
    score = unpack(one.scores, np.float32, 2)[:, 0]
    (served,) = counted(one).values()
    expected = np.zeros((2, 1024), np.int64)
    np.add.at(expected, ((score >= 0.5).astype(int), np.minimum(1023, (score * 1024).astype(int))), 1)
    assert (served.scores.score == expected).all()


def test_a_version_without_profile_is_counted_without_columns() -> None:
    (served,) = counted(record(), reference=unknown()).values()
    assert served.features.n[0] == served.scores.score.sum() == 6


def test_codes_join_numbers_in_the_order_of_the_signature() -> None:
    reference = parse_profile(profile(coded=True).SerializeToString())
    one = record()
    one.x.CopyFrom(pack(np.ones((6, 1), np.float32)))
    one.codes.CopyFrom(pack(np.array([[0], [1], [2], [-1], [-2], [9]], np.int32)))
    (served,) = counted(one, reference=reference).values()
    assert served.features.hist[1, [0, 1, 2, 3, 4]].tolist() == [1, 1, 1, 1, 1]  # unseen, 0, 1, 2, beyond
    assert served.features.hist[1, -1] == 1


def test_a_record_without_rows_counts_its_requests() -> None:
    (served,) = counted(PredictionsServed(revision="r", failed={"INTERNAL": 4}, shed=2)).values()
    assert served.scores.requests.tolist() == [0, 4, 2]
    assert served.features.n[0] == 0


def test_times_far_ahead_are_taken_for_the_record_s_own() -> None:
    rows = predictions.read(record(at_ns=AT_NS + 301 * SECOND), REFERENCE, AT_NS)
    assert (rows.times_ns == AT_NS).all()
    near = predictions.read(record(at_ns=AT_NS + 299 * SECOND), REFERENCE, AT_NS)
    assert (near.times_ns == AT_NS + 299 * SECOND).all()


def test_external_ids_mean_the_first_row_of_their_request() -> None:
    one = record()
    one.external_ids.CopyFrom(pack_texts(["x", "", "z"]))
    named = predictions.read(one, REFERENCE, AT_NS).named
    assert [n.external_id for n in named] == ["x", "z"]
    ids = [parse(n.prediction_id) for n in named]
    assert all(i.tail.row == 0 and verify(i, ID_KEY) for i in ids)
    assert ids[1].request_id == one.request_ids[32:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 5}, "rows: 5 announced"),
        ({"request_ids": b"123"}, "request_ids: expected 48 bytes, got 3"),
        ({"tails": pack(np.zeros(2, np.uint64))}, "tails: expected 6 rows, got 2"),
        ({"tails": pack(np.full(6, 2 << 22, np.uint64))}, "class in tails"),
        ({"tails": pack(np.arange(6, dtype=np.uint64) << np.uint64(34))}, "one revision's"),
        ({"x": pack(np.zeros((6, 3), np.float32))}, "2 numeric and 0 coded columns"),
        ({"x": pack(np.zeros((6, 2), np.float64))}, "element type"),
        ({"x": pack(np.zeros((5, 2), np.float32))}, "x: expected 6 rows"),
        ({"external_ids": pack_texts(["x"])}, "external_ids: expected one for each of 3"),
        ({"latency": pack(np.zeros(3, np.uint32))}, "latency: expected 64 bins"),
        ({"answered": 2**63}, "at most"),
    ],
)
def test_records_that_contradict_themselves_are_refused(change: dict[str, object], message: str) -> None:
    one = record()
    for name, value in change.items():
        one.ClearField(name)  # type: ignore[arg-type]
        one.MergeFrom(PredictionsServed(**{name: value}))  # type: ignore[arg-type]
    with pytest.raises(Malformed, match=message):
        predictions.read(one, REFERENCE, AT_NS)


@given(st.binary(max_size=200), st.integers(0, 9))
@settings(max_examples=200)
def test_no_record_does_anything_but_count_or_be_refused(data: bytes, field: int) -> None:
    """Bytes anywhere: cut, doubled, replaced."""
    good = record().SerializeToString()
    place = len(good) * field // 10
    one = PredictionsServed()
    try:
        one.ParseFromString(good[:place] + data + good[place + len(data) // 2 :])
    except Exception:  # noqa: BLE001  the decoder refuses it before us
        return
    try:
        rows = predictions.read(one, REFERENCE, AT_NS)
    except Malformed:
        return
    buckets: dict[Place, Served] = {}
    predictions.count(
        one, rows, REFERENCE, SECOND, lambda place: buckets.setdefault(place, Served.empty(REFERENCE.edges))
    )
    assert sum(int(b.scores.score.sum()) for b in buckets.values()) == one.rows


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_fields_of_tails_equal_those_of_one_tail(tails: list[int]) -> None:
    found = fields_of(np.array(tails, np.uint64))
    for i, tail in enumerate(tails):
        one = split(tail)
        assert (one.slot, one.segment, one.class_, one.code) == (
            found.slot[i],
            found.segment[i],
            found.class_[i],
            found.code[i],
        )


def test_buckets_survive_bytes_and_damage_is_noticed() -> None:
    (served,) = counted(record()).values()
    back = Scores.from_bytes(served.scores.to_bytes())
    assert (back.score == served.scores.score).all()
    assert back.to_bytes() == served.scores.to_bytes()
    with pytest.raises(PackingError):
        Scores.from_bytes(served.features.to_bytes())


def test_profiles_that_do_not_fit_together_are_refused() -> None:
    broken = profile()
    del broken.columns[1]
    with pytest.raises(MalformedProfile, match="1 columns"):
        parse_profile(broken.SerializeToString())
    with pytest.raises(MalformedProfile, match="not a reference profile"):
        parse_profile(b"\xff")


def test_a_window_closes_when_all_are_past_it_or_the_delay_is_over() -> None:
    assert closed(100, [100, 130], now_ns=101, delay_ns=50)
    assert not closed(100, [99, 130], now_ns=149, delay_ns=50)
    assert closed(100, [99, 130], now_ns=150, delay_ns=50)
    assert not closed(100, [], now_ns=149, delay_ns=50)
    assert not closed(100, [500], now_ns=99, delay_ns=50)
