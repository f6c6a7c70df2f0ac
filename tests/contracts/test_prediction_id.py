from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy as np
import pytest
from holdtrue_contracts import prediction_id as ids
from holdtrue_contracts.ids import uuid7_bytes, uuid_text
from hypothesis import given
from hypothesis import strategies as st

REQUEST = bytes.fromhex("018f3b6e7c007abc8def0123456789ab")
KEY = 0x0123_4567_89AB_CDEF
Field = tuple[int, int, int, int, int]
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

fields = st.tuples(
    st.integers(0, 2**16 - 1), st.integers(0, 2**14 - 1), st.integers(0, 63), st.integers(0, 63), st.integers(0, 4095)
)
request_ids = st.integers(0, 2**48 - 1).map(lambda ms: uuid7_bytes(ms * 1_000_000))
keys = st.integers(0, 2**64 - 1)


def scalar(  # noqa: PLR0913, PLR0917  the fields of a tail
    request: bytes, row: int, slot: int, segment: int, class_: int, code: int, key: int
) -> int:
    """Compute a tail bit by bit, as monitoring.md lays it out: the oracle."""
    payload = ((((row << 14 | slot) << 6 | segment) << 6 | class_) << 12 | code) << 10
    codeword = int.from_bytes(request) << 64 | payload
    remainder = codeword
    for bit in range(191, 9, -1):
        if remainder >> bit & 1:
            remainder ^= 0b110_0011_0011 << (bit - 10)
    mixed = key
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
    return payload | remainder ^ (mixed ^ mixed >> 31) >> 54


def one(  # noqa: PLR0913, PLR0917
    request: bytes, row: int, slot: int, segment: int, class_: int, code: int, key: int
) -> int:
    arrays = np.array([segment], np.uint8), np.array([class_], np.int16), np.array([code], np.uint16)
    return int(ids.tails(request, np.array([row]), slot, *arrays, key)[0])


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ((0, 0, 0, 0, 0), "00000000000GT"),
        ((3, 5, 0, 1, 3), "000R02G0403KR"),
        ((65535, 16383, 63, 63, 4095), "FZZZZZZZZZZY5"),
    ],
)
def test_ids_are_pinned_for_ever(field: Field, text: str) -> None:
    assert ids.text(REQUEST, one(REQUEST, *field, KEY)) == f"018f3b6e-7c00-7abc-8def-0123456789ab/{text}"


@given(request_ids, fields, keys)
def test_tails_are_laid_out_bit_by_bit_as_designed(request: bytes, field: Field, key: int) -> None:
    assert one(request, *field, key) == scalar(request, *field, key)


@given(request_ids, fields, keys)
def test_ids_come_back_from_their_text(request: bytes, field: Field, key: int) -> None:
    parsed = ids.parse(ids.text(request, one(request, *field, key)))
    assert parsed.request_id == request
    tail = parsed.tail
    assert (tail.row, tail.slot, tail.segment, tail.class_, tail.code) == field
    assert ids.verify(parsed, key)


def test_a_vector_of_tails_equals_its_single_ones() -> None:
    rng = np.random.default_rng(0)
    n = 1000
    segments = rng.integers(0, 64, n).astype(np.uint8)
    classes = rng.integers(0, 64, n).astype(np.int16)
    codes = rng.integers(0, 4096, n).astype(np.uint16)
    together = ids.tails(REQUEST, n, 77, segments, classes, codes, KEY)
    apart = [
        scalar(REQUEST, i, 77, int(s), int(c), int(code), KEY)
        for i, (s, c, code) in enumerate(zip(segments, classes, codes, strict=True))
    ]
    assert together.dtype == np.uint64
    assert together.tolist() == apart


def test_several_requests_at_once_equal_each_by_itself() -> None:
    rng = np.random.default_rng(1)
    counts = np.array([1, 0, 5, 300], np.uint32)
    requests = [uuid7_bytes() for _ in counts]
    n = int(counts.sum())
    segments, classes = rng.integers(0, 64, n).astype(np.uint8), rng.integers(0, 9, n).astype(np.int16)
    codes = rng.integers(0, 4096, n).astype(np.uint16)
    raw = np.frombuffer(b"".join(requests), np.uint8).reshape(-1, 16)
    together = ids.tails_of_requests(raw, counts, 9, segments, classes, codes, KEY)
    apart = [
        ids.tails(
            request,
            int(count),
            9,
            segments[end - count : end],
            classes[end - count : end],
            codes[end - count : end],
            KEY,
        )
        for request, count, end in zip(requests, counts, np.cumsum(counts), strict=True)
    ]
    assert together.tolist() == np.concatenate(apart).tolist()


EXAMPLE = ids.text(REQUEST, one(REQUEST, 12, 345, 6, 1, 2345, KEY))
PLACES = [place for place, character in enumerate(EXAMPLE) if character not in "-/"]


def accepted(text: str, key: int = KEY) -> bool:
    try:
        return ids.verify(ids.parse(text), key)
    except ValueError:
        return False


@pytest.mark.parametrize("place", PLACES)
def test_every_change_of_one_character_is_noticed(place: int) -> None:
    assert accepted(EXAMPLE)
    alphabet = "0123456789abcdef" if place < 36 else CROCKFORD
    for other in set(alphabet) - {EXAMPLE[place]}:
        assert not accepted(EXAMPLE[:place] + other + EXAMPLE[place + 1 :]), f"{other} at {place}"


def test_every_swap_of_neighbours_in_a_tail_is_noticed() -> None:
    for place in range(37, len(EXAMPLE) - 1):
        a, b = EXAMPLE[place : place + 2]
        if a != b:
            assert not accepted(EXAMPLE[:place] + b + a + EXAMPLE[place + 2 :]), f"at {place}"


def test_a_tail_under_another_request_id_is_noticed() -> None:
    """All pairs of request ids that one process makes in a row; and, at the rate of ten bits, any others."""
    base = int.from_bytes(REQUEST)
    tails = [one((base + step).to_bytes(16), 0, 1, 0, 1, 100, KEY) for step in range(40)]
    for (i, tail), j in itertools.product(enumerate(tails), range(40)):
        assert accepted(ids.text((base + j).to_bytes(16), tail)) == (i == j)
    tail = EXAMPLE[37:]
    missed = sum(accepted(f"{uuid_text(uuid7_bytes())}/{tail}") for _ in range(20_000))
    assert missed < 60  # 20 of 20,000 expected; 60 would be nine standard deviations away


def test_another_deployments_key_is_noticed() -> None:
    missed = sum(accepted(EXAMPLE, key) for key in range(20_000))
    assert missed < 60


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        EXAMPLE[:-1],
        EXAMPLE + "0",
        EXAMPLE.replace("/", "-"),
        EXAMPLE.upper(),
        EXAMPLE.lower(),
        EXAMPLE[:37] + "G" + EXAMPLE[38:],  # a first character above F would be more than 64 bits
        EXAMPLE[:-1] + "U",
        EXAMPLE[:-1] + "\n",
        f"13483f99-94f0-4764-b495-fb03ce1a2fbe/{EXAMPLE[37:]}",  # a request id is a UUIDv7
    ],
)
def test_any_other_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="a prediction id is <request id>/<tail>, for example"):
        ids.parse(text)


def test_the_example_in_the_error_is_a_prediction_id() -> None:
    with pytest.raises(ValueError, match="for example") as caught:
        ids.parse("")
    ids.parse(str(caught.value).split("for example ")[1].split(";")[0])


def test_the_texts_of_many_tails_equal_the_single_ones() -> None:
    tails = np.array([0, 1, 2**63 + 12345, 2**64 - 1], np.uint64)
    assert ids.tail_texts(tails).decode() == "".join(ids.tail_text(int(tail)) + "," for tail in tails)
    assert ids.tail_texts(np.array([], np.uint64)) == b""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": np.array([70_000])}, "row numbers: expected 0 to 65535, got 70000"),
        ({"rows": np.array([-1])}, "row numbers: expected 0 to 65535, got -1"),
        ({"rows": 65_537}, "rows of a request: expected 0 to 65536"),
        ({"slot": 16_384}, "revision slot: expected 0 to 16383"),
        ({"segments": np.array([64], np.uint8)}, "segment cells: expected 0 to 63"),
        ({"classes": np.array([64], np.int16)}, "classes: expected 0 to 63"),
        ({"classes": np.array([-1], np.int16)}, "classes: expected 0 to 63"),
        ({"codes": np.array([4096], np.uint16)}, "score codes: expected 0 to 4095"),
        ({"request_id": b"short"}, "request id: expected 16 bytes, got 5"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(change: dict[str, Any], said: str) -> None:
    right: dict[str, Any] = {
        "request_id": REQUEST,
        "rows": np.array([0]),
        "slot": 1,
        "segments": np.array([0], np.uint8),
        "classes": np.array([0], np.int16),
        "codes": np.array([0], np.uint16),
        "id_key": KEY,
    }
    assert len(ids.tails(**right)) == 1
    with pytest.raises(ValueError, match=said):
        ids.tails(**right | change)


def test_no_rows_have_no_tails() -> None:
    empty = np.array([], np.uint8), np.array([], np.int16), np.array([], np.uint16)
    assert ids.tails(REQUEST, 0, 1, *empty, KEY).tolist() == []


@given(st.floats(0, 1, width=32))
def test_the_score_code_is_the_floor_of_4096_scores(score: float) -> None:
    assert ids.score_code(np.array([score], np.float32), "identity")[0] == min(4095, int(score * 4096))


def test_the_logit_code_is_pinned_symmetric_and_monotonic() -> None:
    scores = np.array([0.0, 1e-7, 1e-3, 0.25, 0.5, 0.75, 0.999, 1.0])
    assert ids.score_code(scores, "logit").tolist() == [0, 0, 1163, 1907, 2048, 2188, 2932, 4095]
    grid = ids.score_code(np.linspace(0, 1, 10_001), "logit")
    assert (np.diff(grid.astype(int)) >= 0).all()


def test_scores_outside_of_their_range_are_clipped() -> None:
    assert ids.score_code(np.array([-0.5, 1.5, np.nan]), "identity").tolist() == [0, 4095, 0]
    assert ids.score_code(np.array([-0.5, 1.5, np.nan]), "logit").tolist() == [0, 0, 0]


def test_the_time_of_a_request_is_in_its_id() -> None:
    assert ids.time_ns(uuid7_bytes(1_765_432_109_876_543_210)) == 1_765_432_109_876_000_000


def test_label_shards_are_crc32_of_the_text() -> None:
    text = uuid_text(REQUEST)
    assert ids.label_shard(text) == zlib.crc32(text.encode()) % 12 == 10
    assert {ids.label_shard(f"order-{i}") for i in range(200)} == set(range(12))


def test_a_callers_own_id_is_short_printable_ascii() -> None:
    assert ids.external_id_problem("x" * 128) == ids.external_id_problem("order 7/ü"[:7]) == ""
    for text in ("x" * 129, "ü", "a\0b", "a\nb"):
        assert repr(text)[:20] in ids.external_id_problem(text)
