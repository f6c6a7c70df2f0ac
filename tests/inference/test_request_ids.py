"""Request ids: valid UUIDv7, each once, in the order of time."""

from __future__ import annotations

import uuid

from holdtrue_contracts import prediction_id
from holdtrue_inference.domain.request_ids import RequestIds
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_700_000_000_123_456_789
MILLISECOND = 1_000_000
times = st.integers(0, 2**48 * MILLISECOND - 1)


@given(times, st.binary(min_size=6, max_size=6), st.integers(1, 5))
def test_an_id_is_a_valid_uuid_of_version_7_and_of_its_time(time_ns: int, randomness: bytes, count: int) -> None:
    ids = RequestIds(randomness)
    for _ in range(count):
        made = ids.next(time_ns)
        parsed = uuid.UUID(bytes=made)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert parsed.int >> 80 == time_ns // MILLISECOND
        assert prediction_id.time_ns(made) == time_ns // MILLISECOND * MILLISECOND


def test_all_ids_of_one_moment_differ_and_are_in_order() -> None:
    ids = RequestIds()
    made = [ids.next(NOW) for _ in range(300_000)]
    assert len(set(made)) == len(made)
    assert made == sorted(made)


@given(st.lists(times, min_size=2, max_size=50))
def test_ids_are_in_the_order_of_time(moments: list[int]) -> None:
    ids = RequestIds()
    made = [ids.next(moment) for moment in sorted(moments)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


@given(st.integers(0, 2**48 - 1))
def test_processes_differ_by_42_random_bits(drawn: int) -> None:
    made = {RequestIds((drawn ^ 1 << bit).to_bytes(6)).next(NOW) for bit in range(42)}
    made.add(RequestIds(drawn.to_bytes(6)).next(NOW))
    assert len(made) == 43


def test_each_process_draws_its_own() -> None:
    assert len({RequestIds().next(NOW) for _ in range(1_000)}) == 1_000


def test_the_counter_starts_again_after_4_thousand_million() -> None:
    ids = RequestIds(b"random")
    ids._count = 2**32 - 1
    made = ids.next(NOW)
    assert int.from_bytes(made[-4:]) == 0
    assert uuid.UUID(bytes=made).version == 7
