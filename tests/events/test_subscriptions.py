"""Which function handles which event, found once at the start: a mistake ends the service, not an event."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.common.v1.columns_pb2 import Column
from holdtrue_contracts.trainer.v1.runs_pb2 import RunFailed, RunRequested
from holdtrue_events.subscriptions import subscribes, subscriptions

if TYPE_CHECKING:
    from holdtrue_contracts.codec import Event
    from holdtrue_events.outbox import Transaction

REQUESTED, FAILED = "holdtrue.trainer.v1.RunRequested", "holdtrue.trainer.v1.RunFailed"


@subscribes(RunRequested)
async def on_requested(event: Event[RunRequested], tx: Transaction) -> None: ...


async def unmarked(event: Event[RunRequested], tx: Transaction) -> None: ...


@subscribes(RunFailed)
async def on_failed(event: Event[RunFailed], tx: Transaction) -> None: ...


def module(**members: object) -> ModuleType:
    made = ModuleType("handlers")
    vars(made).update(members)
    return made


def test_functions_are_found_by_their_mark() -> None:
    assert subscriptions([on_requested, on_failed]) == {REQUESTED: on_requested, FAILED: on_failed}


def test_in_a_module_only_what_is_marked_is_a_handler() -> None:
    found = subscriptions(module(on=on_requested, failed=on_failed, helper=unmarked, number=3, kind=ModuleType))
    assert found == {REQUESTED: on_requested, FAILED: on_failed}


def test_the_mark_leaves_the_function_as_it_is() -> None:
    async def handler(event: Event[RunRequested], tx: Transaction) -> None: ...

    assert subscribes(RunRequested)(handler) is handler


def test_one_without_a_mark_is_refused_where_it_was_named() -> None:
    with pytest.raises(TypeError, match=r"unmarked.* lacks the mark @subscribes\(<event>\)"):
        subscriptions([on_requested, unmarked])


def test_two_for_the_same_event_are_refused() -> None:
    @subscribes(RunRequested)
    async def another(event: Event[RunRequested], tx: Transaction) -> None: ...

    with pytest.raises(TypeError, match=rf"{REQUESTED} has two handlers: .*on_requested.* and .*another"):
        subscriptions([on_requested, another])


def test_what_is_no_event_is_refused() -> None:
    @subscribes(Column)
    async def on_column(event: Event[Column], tx: Transaction) -> None: ...

    with pytest.raises(TypeError, match="not an event"):
        subscriptions([on_column])
