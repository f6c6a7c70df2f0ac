"""Whatever batches are cut into and joined to, every row, request, latency and failure is recorded once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from holdtrue_contracts.columns import unpack
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_inference.domain import records
from holdtrue_inference.domain.records import Batch, Chunk
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.batches import CONTEXT, NOW, Requests, batch, columns

if TYPE_CHECKING:
    from collections.abc import Sequence

OTHER = PredictionsServed(replica_id="host/0", revision="r2").SerializeToString()


def recorded(pieces: Sequence[bytes]) -> list[PredictionsServed]:
    """The events that become of pieces of the spool."""
    read = [Chunk.decode(piece) for piece in pieces]
    return [
        records.served([read[place] for place in places], batch_id=f"b{i}", spool_id="s", sequence=i)
        for i, places in enumerate(records.group(read), start=1)
    ]


def latencies(events: Sequence[PredictionsServed]) -> list[int]:
    return sum(unpack(event.latency, np.uint32, 1) for event in events).tolist()  # type: ignore[union-attr]


def assert_recorded(events: Sequence[PredictionsServed], batches: Sequence[Batch]) -> None:
    requests = Requests()
    for event in events:
        requests.add(event)
        assert event.rows == len(unpack(event.tails, np.uint64, 1)) == len(unpack(event.segments, np.uint8, 1))
        assert event.rows == unpack(event.request_rows, np.uint32, 1).sum()
    assert requests.ids == [id_ for each in batches for id_ in each.request_ids]
    assert requests.counts == [count for each in batches for count in each.counts]
    assert requests.arrivals_ns == [arrival for each in batches for arrival in each.arrivals_ns]
    assert requests.external_ids == [text for each in batches for text in each.external_ids]
    for name in ("tails", "x", "scores", "classes"):
        np.testing.assert_array_equal(
            np.concatenate([columns(event)[name] for event in events]),
            np.concatenate([getattr(each, name) for each in batches]),
        )
    assert sum(event.answered for event in events) == sum(len(each.counts) for each in batches)
    assert sum(latencies(events)) == sum(len(each.counts) for each in batches)


sizes = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@given(st.lists(sizes, min_size=1, max_size=4), st.integers(1, 20), st.integers(4_400, 6_000), st.integers(1, 5))
def test_the_join_of_any_split_is_the_whole(
    shapes: list[list[int]], most_rows: int, most_bytes: int, width: int
) -> None:
    batches = [batch(counts, width=width, seed=seed) for seed, counts in enumerate(shapes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MAX_ROWS", most_rows)
        patch.setattr(records, "MAX_BYTES", most_bytes)
        events = recorded([piece for each in batches for piece in records.chunks(CONTEXT, each)])
    assert_recorded(events, batches)
    for event in events:
        assert event.rows <= most_rows
        assert event.ByteSize() <= most_bytes
        assert (event.replica_id, event.revision, event.model_version) == ("host/0", "r1", 3)


@pytest.mark.parametrize(
    ("counts", "width", "classes"),
    [
        ([10_000], 30, 1),
        ([10_000], 300, 20),
        ([1] * 1_024, 4, 1),
        ([3, 4_094, 4_095, 1, 4_096], 4, 1),
        ([40], 10_000, 2),
    ],
)
def test_the_largest_batches_become_events_of_bearable_size(counts: list[int], width: int, classes: int) -> None:
    whole = batch(counts, width=width, classes=classes, external="x" * 64)
    pieces = records.chunks(CONTEXT, whole)
    for event in recorded(pieces):
        assert event.ByteSize() <= records.MAX_BYTES
    assert_recorded(recorded(pieces), [whole])


def test_chunks_share_an_event_up_to_its_last_byte_and_no_further() -> None:
    [first] = records.chunks(CONTEXT, batch([2_000], width=54))
    numbers: set[int] = set()
    for rows in (1_876, 1_877, 1_878, 1_894):
        for length in (0, 50, 100, 128):
            whole = replace(batch([rows], width=54), external_ids=["x" * length])
            events = recorded([first, *records.chunks(CONTEXT, whole)])
            numbers.add(len(events))
            assert events[0].ByteSize() <= records.MAX_BYTES
    assert numbers == {1, 2}, "the sizes around the limit"


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1, max_size=12), st.integers(9, 20))
def test_events_are_of_one_revision_each_and_keep_the_order(shapes: list[tuple[bool, int]], most_rows: int) -> None:
    batches = [batch([rows], seed=seed) for seed, (_, rows) in enumerate(shapes)]
    contexts = [OTHER if other else CONTEXT for other, _ in shapes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MAX_ROWS", most_rows)
        pieces = [records.chunks(context, each)[0] for context, each in zip(contexts, batches, strict=True)]
        places = records.group([Chunk.decode(piece) for piece in pieces])
        events = recorded(pieces)
    assert sorted(place for members in places for place in members) == list(range(len(pieces)))
    for revision, context in (("r1", CONTEXT), ("r2", OTHER)):
        of_revision = [each for each, its in zip(batches, contexts, strict=True) if its == context]
        if of_revision:
            assert_recorded([event for event in events if event.revision == revision], of_revision)
    for members in places:
        assert members == sorted(members)
        assert len({contexts[place] for place in members}) == 1


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["INTERNAL", "DEADLINE_EXCEEDED"]), st.integers(1, 9)), st.integers(0, 9)
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_failures_add_up_beside_rows_or_alone(failed: list[tuple[dict[str, int], int]], with_rows: bool) -> None:  # noqa: FBT001
    pieces = [records.failures(CONTEXT, codes, shed) for codes, shed in failed]
    if with_rows:
        pieces[1:1] = records.chunks(CONTEXT, batch([2, 1]))
    [event] = recorded(pieces)
    expected = {code: sum(codes.get(code, 0) for codes, _ in failed) for codes, _ in failed for code in codes}
    assert dict(event.failed) == expected
    assert event.shed == sum(shed for _, shed in failed)
    assert (event.rows, event.answered, event.revision) == ((3, 2, "r1") if with_rows else (0, 0, "r1"))
    assert unpack(event.x, np.float32, 2).shape == ((3, 3) if with_rows else (0, 0))
    assert sum(latencies([event])) == event.answered


@given(st.lists(st.integers(-(10**9), 10**15), min_size=1, max_size=9))
def test_latencies_fall_into_their_bins(waits: list[int]) -> None:
    whole = replace(batch([1] * len(waits)), arrivals_ns=[NOW - wait for wait in waits])
    expected = [0] * records.LATENCY_BINS
    for wait in waits:
        octaves = 2 * math.log2(max(wait, 1_000) / 1_000)
        expected[min(int(octaves), 63)] += 1
    assert latencies(recorded(records.chunks(CONTEXT, whole))) == expected


@pytest.mark.parametrize(
    ("nanoseconds", "bin_"),
    [
        (0, 0),
        (999, 0),
        (1_414, 0),
        (1_415, 1),
        (2_000, 2),
        (1_000_000, 19),
        (1_024_000, 20),
        (10**10, 46),
        (10**18, 63),
    ],
)
def test_two_bins_an_octave_from_a_microsecond(nanoseconds: int, bin_: int) -> None:
    whole = replace(batch([1]), arrivals_ns=[NOW - nanoseconds])
    assert latencies(recorded(records.chunks(CONTEXT, whole))).index(1) == bin_


@given(st.integers(0, 400), st.binary(max_size=3))
def test_a_piece_of_another_length_is_refused(length: int, more: bytes) -> None:
    [piece] = records.chunks(CONTEXT, batch([1, 2]))
    damaged = piece[: min(length, len(piece) - 1)] if length % 2 else piece + b"\0" + more
    with pytest.raises(ValueError, match="a chunk of"):
        Chunk.decode(damaged)


def test_views_of_a_piece_are_its_columns() -> None:
    whole = batch([2, 1], width=2, classes=3)
    [piece] = records.chunks(CONTEXT, whole)
    chunk = Chunk.decode(piece)
    assert (chunk.rows, chunk.width, chunk.classes_width, chunk.continued, chunk.size) == (3, 2, 3, False, len(piece))
    assert chunk.answered_ns == NOW
    assert bytes(chunk.request_ids) == b"".join(whole.request_ids)
    np.testing.assert_array_equal(np.frombuffer(chunk.x, "<f4").reshape(3, 2), whole.x)
    np.testing.assert_array_equal(np.frombuffer(chunk.scores, "<f4").reshape(3, 3), whole.scores)


def test_scores_that_are_a_column_of_a_matrix_are_recorded_as_they_are() -> None:
    probabilities = np.random.default_rng(0).random((4, 2)).astype(np.float32)
    [event] = recorded(records.chunks(CONTEXT, replace(batch([4]), scores=probabilities[:, 1:])))
    np.testing.assert_array_equal(unpack(event.scores, np.float32, 2), probabilities[:, 1:])
