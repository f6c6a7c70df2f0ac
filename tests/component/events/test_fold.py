"""The PostgreSQL side of a fold: state and offsets move together, and only where nobody else moved them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_events.fold import Fenced, commit_offsets, load_offsets

from tests.component.events.harness import ACTOR, values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holdtrue_storage.database import Database

TOPIC = "predictions.v1"


async def load(database: Database, partitions: Iterable[int], actor: Actor = ACTOR) -> dict[int, int]:
    async with database.transaction(actor) as tx:
        return await load_offsets(tx, TOPIC, partitions)


async def fold(database: Database, moves: Mapping[int, tuple[int, int]], state: str = "folded") -> None:
    async with database.transaction(ACTOR) as tx:
        await commit_offsets(tx, TOPIC, moves)
        await tx.execute("INSERT INTO effect (value) VALUES ($1)", state)


async def test_it_begins_at_the_beginning_and_goes_on_where_it_stopped(database: Database) -> None:
    assert await load(database, [2, 0]) == {0: 0, 2: 0}
    await fold(database, {0: (0, 7), 2: (0, 1)})
    await fold(database, {0: (7, 9)})
    assert await load(database, [0, 1, 2]) == {0: 9, 1: 0, 2: 1}


async def test_topics_and_tenants_have_their_own(database: Database) -> None:
    await load(database, [0])
    await fold(database, {0: (0, 7)})
    assert await load(database, [0], Actor("north", "x", ActorKind.SERVICE)) == {0: 0}
    async with database.transaction(ACTOR) as tx:
        assert await load_offsets(tx, "labels.v1", [0]) == {0: 0}


@pytest.mark.parametrize(
    "moves",
    [{0: (0, 9)}, {0: (8, 9)}, {0: (7, 9), 1: (1, 2)}, {0: (7, 9), 5: (0, 1)}],
    ids=["a zombie", "one ahead", "one of two", "one that was never loaded"],
)
async def test_who_expected_something_else_is_fenced_and_leaves_nothing(
    database: Database, moves: dict[int, tuple[int, int]]
) -> None:
    await load(database, [0, 1])
    await fold(database, {0: (0, 7)}, "mine")
    with pytest.raises(Fenced, match=r"offsets of predictions\.v1: expected .*, found .*; load them again") as caught:
        await fold(database, moves, "the zombie's")
    assert caught.value.reason == "FENCED"
    assert await load(database, [0, 1]) == {0: 7, 1: 0}
    assert await values(database, "SELECT value FROM effect") == ["mine"]


async def test_a_fold_that_fails_moves_nothing(database: Database) -> None:
    await load(database, [0])

    async def fail() -> None:
        async with database.transaction(ACTOR) as tx:
            await commit_offsets(tx, TOPIC, {0: (0, 7)})
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await fail()
    assert await load(database, [0]) == {0: 0}


async def test_of_many_workers_with_the_same_expectation_exactly_one_gets_through(database: Database) -> None:
    """Again and again, with partitions in any order: they wait for each other and none for ever."""
    for turn in range(5):
        await load(database, [0, 1])
        orders = [{0: (turn, turn + 1), 1: (turn, turn + 1)}, {1: (turn, turn + 1), 0: (turn, turn + 1)}] * 4
        results = await asyncio.gather(*(fold(database, moves) for moves in orders), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Fenced"] * 7 + ["NoneType"]
    assert len(await values(database, "SELECT value FROM effect")) == 5
