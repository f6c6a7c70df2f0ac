"""Prediction ids: `<request id>/<tail>`, where the tail tells the monitor which count a late label belongs to.

The tail is 64 bits, most significant first: row 16, revision slot 14, segment cell 6, class 6, score code 12, check 10;
as text 13 characters of Crockford's base32. The check is a CRC-10 (x^10+x^9+x^5+x^4+x+1) over request id and the other
fields, xored with ten bits mixed from the deployment's `id_key`. So every change of one character, or of two adjacent
ones in the tail, is noticed; any other mistake with probability 1023/1024. It is no authentication.

A CRC is linear over xor, so a tail is the xor of one table entry for each field: that makes a vector of tails cost a
few numpy operations. Changing anything here breaks every label that is still to come.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from holdtrue_contracts.ids import uuid_text

ScoreMap = Literal["identity", "logit"]
Tails = NDArray[np.uint64]

MAX_ROWS = 1 << 16
"""Rows of one request that can be told apart."""
MAX_SLOTS = 1 << 14
"""Revision slots of a tenant."""
CODES = 1 << 12
"""Score codes."""
MAX_EXTERNAL_ID = 128
"""Characters of a caller's own id of a request, printable ASCII."""
LABEL_SHARDS = 12
"""Shards of labels: the key of `labels.v1`."""

_ROW, _SLOT, _SEGMENT, _CLASS, _CODE = 48, 34, 28, 22, 10  # position of each field's lowest bit
_CHECK_BITS = 10
_CHECK_MASK = (1 << _CHECK_BITS) - 1
_POLYNOMIAL = 0x633
_LOGIT_RANGE = 16.0
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_CHARACTERS = np.frombuffer((_ALPHABET + ",").encode(), np.uint8)
_SHIFTS = np.arange(60, -1, -5, dtype=np.uint64)
_TAIL_LENGTH = 13
_REQUEST_LENGTH = 16
_ID = re.compile(
    r"([0-9a-f]{8})-([0-9a-f]{4})-(7[0-9a-f]{3})-([89ab][0-9a-f]{3})-([0-9a-f]{12})/([0-9A-F][0-9A-HJKMNP-TV-Z]{12})"
)


@dataclass(frozen=True, slots=True)
class Tail:
    """The fields of a tail, as unsigned numbers."""

    row: int
    slot: int
    segment: int
    class_: int
    code: int
    check: int


@dataclass(frozen=True, slots=True)
class PredictionId:
    """Names one row of one request. `request_id` is the 16 bytes of a UUIDv7."""

    request_id: bytes
    tail: Tail


def _basis(bits: range) -> list[int]:
    """Return x^bit modulo the polynomial for each bit position of the codeword."""
    values: list[int] = []
    for bit in bits:
        remainder = 1 << bit
        for position in range(bit, _CHECK_BITS - 1, -1):
            if remainder >> position & 1:
                remainder ^= _POLYNOMIAL << (position - _CHECK_BITS)
        values.append(remainder)
    return values


def _span(basis: list[int]) -> NDArray[np.uint64]:
    """Return, for every combination of bits, the xor of their basis values."""
    table = np.zeros(1, np.uint64)
    for value in basis:
        table = np.concatenate([table, table ^ np.uint64(value)])
    return table


def _field(low: int, width: int) -> Tails:
    """Return the contribution to a tail, check included, of every value of a field."""
    values = np.arange(1 << width, dtype=np.uint64) << np.uint64(low)
    return values ^ _span(_basis(range(low, low + width)))


def _request_table() -> Tails:
    """Return, for each byte position and value of a request id, its contribution to the check."""
    positions = (range(64 + 8 * (15 - i), 64 + 8 * (16 - i)) for i in range(_REQUEST_LENGTH))
    return np.stack([_span(_basis(bits)) for bits in positions])


_ROWS, _SLOTS, _SEGMENTS = _field(_ROW, 16), _field(_SLOT, 14), _field(_SEGMENT, 6)
_CLASSES, _SCORES = _field(_CLASS, 6), _field(_CODE, 12)
_REQUESTS = _request_table()
_REQUEST_BYTES: list[list[int]] = _REQUESTS.tolist()
_POSITIONS = np.arange(_REQUEST_LENGTH)


def tails(  # noqa: PLR0913, PLR0917  the fields of a tail
    request_id: bytes,
    rows: int | NDArray[Any],
    slot: int,
    segments: NDArray[np.uint8],
    classes: NDArray[np.int16],
    codes: NDArray[np.uint16],
    id_key: int,
) -> Tails:
    """Return the tail of each of n rows of one request.

    `rows` is n, or the n row numbers; `segments` < 64, `classes` < 64 and `codes` < 4096 have length n. Numbers that do
    not fit raise ValueError.
    """
    rows_part = _row_entries(rows)
    constant = _request_check(request_id) ^ _key_bits(id_key)
    return rows_part ^ _cell_entries(slot, segments, classes, codes) ^ np.uint64(constant)


def tails_of_requests(  # noqa: PLR0913, PLR0917  the fields of a tail
    request_ids: NDArray[np.uint8],
    counts: NDArray[Any],
    slot: int,
    segments: NDArray[np.uint8],
    classes: NDArray[np.int16],
    codes: NDArray[np.uint16],
    id_key: int,
) -> Tails:
    """Return the tail of each row of r requests, one after the other: `tails` for each, in a few operations.

    `request_ids` uint8 [r, 16]; `counts` rows of each, integers [r]; the others have one entry a row.
    """
    counts = np.asarray(counts, np.int64)
    total = int(counts.sum())
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    checks = np.bitwise_xor.reduce(_REQUESTS[_POSITIONS, request_ids], axis=1) ^ np.uint64(_key_bits(id_key))
    rows_part = _row_entries(np.arange(total) - starts)
    return rows_part ^ _cell_entries(slot, segments, classes, codes) ^ np.repeat(checks, counts)


def score_code(scores: NDArray[Any], score_map: ScoreMap) -> NDArray[np.uint16]:
    """Return min(4095, floor(4096·m(s))) of each score in [0, 1] (outside: clipped; NaN: 0), in double precision.

    m is the identity, or the logit from -16 to 16 stretched to 0 to 1, for models whose scores crowd at the ends.
    """
    values = np.asarray(scores, np.float64)
    if score_map == "logit":
        with np.errstate(divide="ignore", invalid="ignore"):
            values = (np.log(values) - np.log1p(-values)) / (2 * _LOGIT_RANGE) + 0.5
    return np.fmin(np.fmax(np.floor(values * CODES), 0), CODES - 1).astype(np.uint16)


def text(request_id: bytes, tail: int) -> str:
    """Return the text of a prediction id."""
    return f"{uuid_text(request_id)}/{tail_text(tail)}"


def tail_text(tail: int) -> str:
    """Return the 13 characters of a tail."""
    number = int(tail)
    return "".join([_ALPHABET[number >> shift & 31] for shift in range(60, -1, -5)])


def tail_texts(tails: Tails) -> bytes:
    """Return the text of n tails as ASCII, each 13 characters and a comma: tail i begins at 14·i."""
    digits = np.full((len(tails), _TAIL_LENGTH + 1), len(_ALPHABET), np.uint8)
    digits[:, :_TAIL_LENGTH] = tails[:, None] >> _SHIFTS & np.uint64(31)
    return _CHARACTERS[digits].tobytes()


def parse(id_text: str) -> PredictionId:
    """Return the parts of a prediction id as `text` writes it; raises ValueError for any other text."""
    match = _ID.fullmatch(id_text)
    if match is None:
        raise ValueError(
            "a prediction id is <request id>/<tail>, for example "
            f"018f3b6e-7c00-7abc-8def-0123456789ab/000G00400J0YZ; got {id_text[:80]!r}"
        )
    *request, tail = match.groups()
    number = 0
    for character in tail:
        number = number << 5 | _VALUES[character]
    return PredictionId(bytes.fromhex("".join(request)), split(number))


def split(tail: int) -> Tail:
    """Return the fields of a tail."""
    return Tail(
        row=tail >> _ROW,
        slot=tail >> _SLOT & (MAX_SLOTS - 1),
        segment=tail >> _SEGMENT & 63,
        class_=tail >> _CLASS & 63,
        code=tail >> _CODE & (CODES - 1),
        check=tail & _CHECK_MASK,
    )


def verify(prediction_id: PredictionId, id_key: int) -> bool:
    """Return whether the check fits the request id, the fields and the deployment's key."""
    tail = prediction_id.tail
    expected = (
        int(_ROWS[tail.row] ^ _SLOTS[tail.slot] ^ _SEGMENTS[tail.segment] ^ _CLASSES[tail.class_] ^ _SCORES[tail.code])
        ^ _request_check(prediction_id.request_id)
        ^ _key_bits(id_key)
    )
    return expected & _CHECK_MASK == tail.check


def time_ns(request_id: bytes) -> int:
    """Return when the request id was made, nanoseconds since the epoch, to the millisecond."""
    return int.from_bytes(request_id[:6]) * 1_000_000


def external_id_problem(text: str) -> str:
    """Say what is wrong with a caller's own id; empty if nothing. Inference takes no other ids with requests."""
    if len(text) <= MAX_EXTERNAL_ID and text.isascii() and text.isprintable():
        return ""
    return f"expected at most {MAX_EXTERNAL_ID} printable ASCII characters, got {text[: MAX_EXTERNAL_ID + 1]!r}"


def label_shard(id_text: str) -> int:
    """Return the shard of labels for the text of a request id, or for an external id."""
    return zlib.crc32(id_text.encode()) % LABEL_SHARDS


def _row_entries(rows: int | NDArray[Any]) -> Tails:
    if isinstance(rows, int):
        if not 0 <= rows <= MAX_ROWS:
            raise ValueError(f"rows of a request: expected 0 to {MAX_ROWS}, got {rows}")
        return _ROWS[:rows]
    return _entries(_ROWS, rows, "row numbers")


def _cell_entries(
    slot: int, segments: NDArray[np.uint8], classes: NDArray[np.int16], codes: NDArray[np.uint16]
) -> Tails:
    if not 0 <= slot < MAX_SLOTS:
        raise ValueError(f"revision slot: expected 0 to {MAX_SLOTS - 1}, got {slot}")
    cells = _entries(_SEGMENTS, segments, "segment cells") ^ _entries(_CLASSES, classes, "classes")
    return cells ^ _entries(_SCORES, codes, "score codes") ^ _SLOTS[slot]


def _entries(table: Tails, values: NDArray[Any], what: str) -> Tails:
    """Return the table's entry for each value; numpy's own bounds check sees the ones that do not fit."""
    try:
        return table[values.astype(np.uint32, copy=False)]  # unsigned: below 0 is out of bounds, not from the end
    except IndexError as error:
        raise ValueError(f"{what}: expected 0 to {len(table) - 1}, got {values.min()} to {values.max()}") from error


def _request_check(request_id: bytes) -> int:
    if len(request_id) != _REQUEST_LENGTH:
        raise ValueError(f"request id: expected {_REQUEST_LENGTH} bytes, got {len(request_id)}")
    check = 0
    for table, byte in zip(_REQUEST_BYTES, request_id, strict=True):
        check ^= table[byte]
    return check


def _key_bits(id_key: int) -> int:
    """Mix 64 bits to 10 (the finaliser of splitmix64)."""
    mask = 0xFFFF_FFFF_FFFF_FFFF
    value = id_key & mask
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & mask
    value = (value ^ value >> 27) * 0x94D049BB133111EB & mask
    return (value ^ value >> 31) >> 54
