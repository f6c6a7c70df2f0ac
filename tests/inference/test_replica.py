"""What is served follows what is desired, and what cannot be had leaves what there was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState
from holdtrue_core.errors import NotFound
from holdtrue_inference.workers import replica as module
from holdtrue_models import MalformedModel
from structlog.testing import capture_logs

from tests.inference.replicas import FAILED, LOADING, READY, World
from tests.inference.states import revision, state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    world = World(tmp_path)
    await world.live()
    with capture_logs():
        yield world
    await world.end()


OLD, NEW = revision("old"), revision("new", slot=1, model_version=2)
OLD_STANDBY = revision("old", weight=0)


async def test_a_swap_serves_the_new_and_loads_only_what_is_missing(world: World) -> None:
    world.replica.desire(state(1, OLD))
    await world.until(("fraud", 1, {"old": (READY, "")}))
    assert world.served() == {"old": 10_000}
    world.replica.desire(state(2, OLD_STANDBY, NEW))
    await world.until(("fraud", 2, {"old": (READY, ""), "new": (READY, "")}))
    assert world.served() == {"old": 0, "new": 10_000}
    assert world.loaded == ["old", "new"]
    assert world.replica.ready


async def test_while_the_new_one_loads_the_old_one_serves(world: World) -> None:
    world.replica.desire(state(1, OLD))
    await world.until(("fraud", 1, {"old": (READY, "")}))
    world.may_load.clear()
    world.replica.desire(state(2, NEW))
    await world.until(("fraud", 1, {"new": (LOADING, "")}))
    assert world.served() == {"old": 10_000}
    assert [(e.version, e.state) for e in world.replica.index()] == [("2", "LOADING")]
    world.may_load.set()
    await world.until(("fraud", 2, {"new": (READY, "")}))
    assert world.served() == {"new": 10_000}


@pytest.mark.parametrize(
    "error", [NotFound("blob 1234 is not here"), MalformedModel("no model"), ValueError("no"), OSError("no disk")]
)
async def test_a_failed_load_keeps_the_old_table_says_why_and_is_tried_again(world: World, error: Exception) -> None:
    world.replica.desire(state(1, OLD))
    await world.until(("fraud", 1, {"old": (READY, "")}))
    world.broken["new"] = error
    world.replica.desire(state(2, OLD_STANDBY, NEW))
    await world.until(("fraud", 1, {"old": (READY, ""), "new": (FAILED, str(error))}))
    assert world.served() == {"old": 10_000}
    assert [(e.version, e.state, e.reason) for e in world.replica.index()] == [
        ("1", "READY", ""),
        ("2", "UNAVAILABLE", str(error)),
    ]
    assert world.cache.load() == [state(1, OLD)]
    world.broken.clear()
    await world.until(("fraud", 2, {"old": (READY, ""), "new": (READY, "")}))
    assert world.served() == {"old": 0, "new": 10_000}


async def test_a_standby_that_cannot_be_loaded_holds_up_nobody(world: World) -> None:
    world.broken["new"] = MalformedModel("no model")
    standby = revision("new", weight=0, model_version=2)
    world.replica.desire(state(1, OLD, standby))
    await world.until(("fraud", 1, {"old": (READY, ""), "new": (FAILED, "no model")}))
    assert world.served() == {"old": 10_000}
    world.broken.clear()
    await world.until(("fraud", 1, {"old": (READY, ""), "new": (READY, "")}))
    assert world.served() == {"old": 10_000, "new": 0}


async def test_an_older_generation_changes_nothing(world: World) -> None:
    world.replica.desire(state(5, OLD))
    await world.until(("fraud", 5, {"old": (READY, "")}))
    for generation in (4, 5):
        world.replica.desire(state(generation, NEW))
    world.replica.desire(state(6, OLD))
    await world.until(("fraud", 6, {"old": (READY, "")}))
    assert world.loaded == ["old"]


async def test_only_the_last_of_many_states_is_loaded(world: World) -> None:
    world.may_load.clear()
    world.replica.desire(state(1, OLD))
    await world.until(("fraud", 0, {"old": (LOADING, "")}))
    for generation in range(2, 9):
        world.replica.desire(state(generation, revision(f"r{generation}")))
    world.may_load.set()
    await world.until(("fraud", 8, {"r8": (READY, "")}))
    assert world.loaded == ["old", "r8"]


async def test_a_deleted_deployment_is_gone_also_from_the_disk(world: World) -> None:
    for name in ("fraud", "other"):
        world.replica.desire(state(1, OLD, name=name))
    await world.until(*((name, 1, {"old": (READY, "")}) for name in ("fraud", "other")))
    world.replica.desire(DeploymentState(deployment_id="id-of-fraud", generation=2, deleted=True))
    await world.until(("other", 1, {"old": (READY, "")}))
    assert list(world.serving.table.deployments) == ["other"]
    assert world.cache.load() == [state(1, OLD, name="other")]
    assert world.loaded == ["old"], "both share one model"


async def test_weights_that_are_not_whole_are_told_and_not_served(world: World) -> None:
    world.replica.desire(state(1, OLD))
    await world.until(("fraud", 1, {"old": (READY, "")}))
    world.replica.desire(state(2, revision("old", weight=9_999)))
    reason = "weights of a deployment sum to 10000 basis points or to 0, got {'old': 9999}"
    await world.until(("fraud", 1, {"old": (FAILED, reason)}))
    assert world.served() == {"old": 10_000}


def renamed(generation: int, name: str, of: str) -> DeploymentState:
    changed = state(generation, OLD, name=name)
    changed.deployment_id = f"id-of-{of}"
    return changed


async def test_a_name_that_is_taken_is_served_as_soon_as_it_is_free(world: World) -> None:
    world.replica.desire(state(1, OLD, name="b"))
    world.replica.desire(state(1, OLD, name="a"))
    await world.until(("b", 1, {"old": (READY, "")}), ("a", 1, {"old": (READY, "")}))
    world.replica.desire(renamed(2, "a", of="b"))
    taken = "the name 'a' belongs to deployment id-of-a"
    await world.until(("b", 1, {"old": (FAILED, taken)}), ("a", 1, {"old": (READY, "")}))
    assert sorted(world.serving.table.deployments) == ["a", "b"]
    world.replica.desire(DeploymentState(deployment_id="id-of-a", generation=2, deleted=True))
    await world.until(("b", 2, {"old": (READY, "")}))
    assert {name: d.deployment_id for name, d in world.serving.table.deployments.items()} == {"a": "id-of-b"}


async def test_a_full_disk_does_not_keep_a_new_state_from_being_served(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: DeploymentState) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.cache, "save", full)
    world.replica.desire(state(1, OLD))
    await world.until(("fraud", 1, {"old": (READY, "")}))
    assert world.served() == {"old": 10_000}


async def test_models_that_nobody_needs_are_let_go(world: World) -> None:
    world.replica.desire(state(1, OLD))
    await world.until(("fraud", 1, {"old": (READY, "")}))
    world.replica.desire(state(2, NEW))
    await world.until(("fraud", 2, {"new": (READY, "")}))
    world.replica.desire(state(3, OLD))
    await world.until(("fraud", 3, {"old": (READY, "")}))
    assert world.loaded == ["old", "new", "old"]


async def test_the_next_life_serves_the_last_states_before_anything_else(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.cache.save(state(3, OLD))
    await world.live()
    assert world.served() == {"old": 10_000}
    assert world.progress() == {"fraud": (3, {"old": (READY, "")})}
    await world.end()
