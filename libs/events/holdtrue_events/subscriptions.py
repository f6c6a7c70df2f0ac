"""Which function handles which event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from google.protobuf.message import Message
from holdtrue_contracts import catalogue
from holdtrue_contracts.codec import Event

from .outbox import Transaction

M = TypeVar("M", bound=Message)
Handler = Callable[[Event[M], Transaction], Awaitable[None]]
AnyHandler = Handler[Any]
Handlers = ModuleType | Sequence[AnyHandler]

_MARK = "__subscribes__"


def subscribes(message: type[M]) -> Callable[[Handler[M]], Handler[M]]:
    """Mark a function as the handler of an event; `React` finds it by the mark."""

    def mark(handler: Handler[M]) -> Handler[M]:
        vars(handler)[_MARK] = message
        return handler

    return mark


def subscriptions(handlers: Handlers) -> Mapping[str, AnyHandler]:
    """Return the handlers by event type; raises TypeError where one is unmarked or an event has two."""
    found: dict[str, AnyHandler] = {}
    for handler in _functions(handlers):
        message: type[Message] | None = getattr(handler, _MARK, None)
        if message is None:
            raise TypeError(f"{handler} lacks the mark @subscribes(<event>)")
        name = catalogue.of(message).name
        if name in found:
            raise TypeError(f"{name} has two handlers: {found[name]} and {handler}")
        found[name] = handler
    return found


def _functions(handlers: Handlers) -> Iterable[AnyHandler]:
    if not isinstance(handlers, ModuleType):
        return handlers
    members = vars(handlers).values()
    return [value for value in members if isinstance(value, FunctionType) and hasattr(value, _MARK)]
