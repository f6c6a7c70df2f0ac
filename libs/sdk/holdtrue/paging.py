"""Lists that come in pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Page(Protocol):
    """An answer that may have another one after it."""

    next_page_token: str


P = TypeVar("P", bound=Page)
T = TypeVar("T")


def pages(fetch: Callable[[str], P], items: Callable[[P], Iterable[T]]) -> Iterator[T]:
    """Yield the items of all pages; `fetch` gets the page of a token, "" being the first."""
    token = ""
    while True:
        page = fetch(token)
        yield from items(page)
        token = page.next_page_token
        if not token:
            return
