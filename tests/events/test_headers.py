"""Headers in the outbox and in dead letters, and what a dead letter makes of a record."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from holdtrue_contracts.actor import DEFAULT_TENANT
from holdtrue_contracts.codec import Record
from holdtrue_contracts.dead_letter import REPLAY, DeadLetter, header, replayed_for, tenant_of
from holdtrue_events.outbox import pack_headers, unpack_headers
from hypothesis import given
from hypothesis import strategies as st

texts = st.text(st.characters(codec="utf-8"))
headers = st.lists(st.tuples(texts, st.none() | st.binary())).map(tuple)
places = st.integers(0, 2**31 - 1)
letters = st.builds(
    DeadLetter,
    id=texts,
    tenant=texts,
    consumer=texts.filter(lambda text: text and "/" not in text and "\0" not in text),
    topic=texts,
    partition=places,
    offset=places,
    reason=texts,
    message=texts,
    failed_at=st.datetimes(timezones=st.just(UTC)),
    key=st.none() | st.binary(),
    value=st.none() | st.binary(),
    headers=headers,
)


@given(headers)
def test_headers_come_back_from_their_packed_form(original: tuple[tuple[str, bytes | None], ...]) -> None:
    assert tuple(unpack_headers(pack_headers(original))) == original


def test_the_packed_form_is_pinned() -> None:
    """Rows of older versions are read by newer ones."""
    assert pack_headers([("é", b"\x00\xff"), ("n", None)]) == (
        b"\x02\x00\x02\x00\x00\x00\xc3\xa9\x00\xff\x01\x00\xff\xff\xff\xffn"
    )


@given(letters)
def test_a_dead_letter_comes_back_from_its_topic(letter: DeadLetter) -> None:
    record = letter.to_record()
    assert record.topic == "dead-letters.v1"
    assert (record.key, record.value) == (letter.key, letter.value)
    assert record.headers[: len(letter.headers)] == letter.headers
    assert DeadLetter.from_record(record.key, record.value, record.headers) == letter


@given(letters)
def test_a_replay_is_the_original_for_one_consumer(letter: DeadLetter) -> None:
    record = letter.replay()
    *original, (name, _) = record.headers
    assert (record.topic, record.key, record.value, tuple(original)) == (
        letter.topic,
        letter.key,
        letter.value,
        letter.headers,
    )
    assert name == REPLAY
    assert replayed_for(record.headers)[0] == letter.consumer


def letter(*known: tuple[str, bytes | None]) -> DeadLetter:
    now = datetime(2026, 7, 1, tzinfo=UTC)
    return DeadLetter("l2", DEFAULT_TENANT, "trainer", "runs.v1", 1, 2, "failed", "why", now, b"k", b"v", known)


def test_a_replay_of_a_replay_names_the_last_letter_only() -> None:
    again = letter(("ce_id", b"e"), (REPLAY, b"trainer/l1")).replay()
    assert again.headers == (("ce_id", b"e"), (REPLAY, b"trainer/l2"))
    assert replayed_for(again.headers) == ("trainer", "l2")


@given(headers)
def test_whatever_headers_hold_a_database_can_keep_what_is_read_from_them(
    known: tuple[tuple[str, bytes | None], ...],
) -> None:
    for read in (header(known, "ce_id"), tenant_of((*known, ("ce_tenant", b"\xff\0"))), *replayed_for(known)):
        assert "\0" not in (read or "")


@pytest.mark.parametrize(
    ("value", "tenant"),
    [
        (b"north", "north"),
        (b"", DEFAULT_TENANT),
        (None, DEFAULT_TENANT),
        (b"t" * 257, DEFAULT_TENANT),
        (b"\xffno\0rth", "\ufffdno\ufffdrth"),
    ],
)
def test_the_tenant_is_what_the_headers_say_if_it_can_be_one(value: bytes | None, tenant: str) -> None:
    assert tenant_of([("other", b"x"), ("ce_tenant", value)]) == tenant
    assert tenant_of([]) == DEFAULT_TENANT


@pytest.mark.parametrize("value", [None, b"", b"/l1"])
def test_a_replay_for_nobody_is_none(value: bytes | None) -> None:
    assert replayed_for([(REPLAY, value)])[0] == ""


def test_a_forged_replay_stays_short_enough_for_an_index() -> None:
    assert replayed_for([(REPLAY, b"trainer/" + b"x" * 10_000)]) == ("trainer", "x" * 256)


def test_what_is_no_dead_letter_says_which_header_is_missing() -> None:
    known = [(name, value) for name, value in letter().to_record().headers if name != "holdtrue_dead_reason"]
    with pytest.raises(ValueError, match="holdtrue_dead_reason is missing"):
        DeadLetter.from_record(b"k", b"v", known)


def test_a_dead_letter_tells_what_its_headers_tell() -> None:
    known = letter(("ce_id", b"e\xff"), ("ce_type", None))
    assert (known.event_id, known.event_type) == ("e\ufffd", None)
    assert isinstance(known.to_record(), Record)
