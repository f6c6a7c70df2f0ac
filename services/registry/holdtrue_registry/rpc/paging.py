"""Pages of a listing: the token names the last item of the page before."""

from __future__ import annotations

import base64
import binascii
import re

from holdtrue_core.errors import InvalidArgument

DEFAULT_SIZE = 100
MOST = 500
_LARGEST = 2**63 - 1
_NUMBER = re.compile(r"-?[0-9]{1,19}")


def page_size(asked: int) -> int:
    """Return how many items a page may have; raises InvalidArgument."""
    if not 0 <= asked <= MOST:
        raise InvalidArgument.of("page_size", f"expected 0 to {MOST}, got {asked}")
    return asked or DEFAULT_SIZE


def token(last: str) -> str:
    """Return the token of the page that follows the item `last`."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def last_of(page_token: str) -> str:
    """Return what a token names, empty for the first page; raises InvalidArgument."""
    try:
        return base64.b64decode(page_token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise _bad(page_token) from error


def number_of(page_token: str) -> int:
    """Return the number that a token names, a very large one for the first page; raises InvalidArgument."""
    last = last_of(page_token)
    if not last:
        return _LARGEST
    if not (last.isascii() and last.isdigit() and len(last) <= len(str(_LARGEST)) and int(last) <= _LARGEST):
        raise _bad(page_token)
    return int(last)


def numbers_of(page_token: str, count: int) -> tuple[int, ...]:
    """Return the numbers that a token names, divided by slashes; raises InvalidArgument."""
    texts = last_of(page_token).split("/")
    if len(texts) != count or not all(_NUMBER.fullmatch(text) and abs(int(text)) <= _LARGEST for text in texts):
        raise _bad(page_token)
    return tuple(map(int, texts))


def _bad(page_token: str) -> InvalidArgument:
    return InvalidArgument.of(
        "page_token", f"{page_token[:100]!r} is no token of this listing; leave it empty for the first page"
    )
