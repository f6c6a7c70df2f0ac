from __future__ import annotations

import uuid

from holdtrue_contracts.ids import uuid7, uuid7_bytes, uuid_text

NANOSECONDS = 1_765_432_109_876_543_210


def test_ids_are_version_7_of_the_standard_variant() -> None:
    made = uuid.UUID(uuid7())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122


def test_the_time_is_in_front_to_a_quarter_of_a_microsecond() -> None:
    raw = uuid7_bytes(NANOSECONDS)
    assert int.from_bytes(raw[:6]) == NANOSECONDS // 1_000_000
    fraction = int.from_bytes(raw[6:8]) & 0xFFF
    assert fraction == (NANOSECONDS % 1_000_000) * 4096 // 1_000_000


def test_ids_sort_by_time_and_never_repeat() -> None:
    apart = [uuid7(NANOSECONDS + step * 250) for step in range(1000)]
    assert apart == sorted(apart)
    together = {uuid7(NANOSECONDS) for _ in range(10_000)}
    assert len(together) == 10_000


def test_the_text_form_is_the_standard_one() -> None:
    raw = uuid7_bytes()
    assert uuid_text(raw) == str(uuid.UUID(bytes=raw))
