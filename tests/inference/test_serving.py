"""The routing table: replaced as a whole, one deployment for a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_inference.domain.routing import Deployment
from holdtrue_inference.serving import Serving

from tests.inference.lanes import Desk

if TYPE_CHECKING:
    from holdtrue_inference.lane import Lane


def named(name: str, *lanes: Lane, of: str) -> Deployment[Lane]:
    return Deployment(of, name, b"salt", lanes)


def test_a_name_belongs_to_one_deployment() -> None:
    serving = Serving()
    first = named("a", of="one")
    serving.serve("one", first)
    with pytest.raises(ValueError, match="the name 'a' belongs to deployment one"):
        serving.serve("two", named("a", of="two"))
    assert serving.table.deployments == {"a": first}


def test_a_deployment_may_change_its_name_and_leave_it_to_another() -> None:
    serving = Serving()
    serving.serve("one", named("a", of="one"))
    serving.serve("one", named("b", of="one"))
    serving.serve("two", named("a", of="two"))
    assert {name: d.deployment_id for name, d in serving.table.deployments.items()} == {"a": "two", "b": "one"}


def test_a_table_that_is_in_use_never_changes() -> None:
    serving = Serving()
    serving.serve("one", named("a", of="one"))
    before = serving.table
    serving.serve("one", None)
    serving.serve("one", None)
    assert (dict(serving.table.deployments), list(before.deployments)) == ({}, ["a"])


async def test_failures_of_all_lanes_are_recorded_at_the_end() -> None:
    desks = [Desk(), Desk()]
    serving = Serving()
    for number, desk in enumerate(desks):
        serving.serve(f"id {number}", named(f"d{number}", desk.lane, of=f"id {number}"))
        desk.lane.fail("INTERNAL")
    serving.record_failures()
    for desk in desks:
        [chunk] = desk.log.chunks
        assert dict(PredictionsServed.FromString(bytes(chunk.extra)).failed) == {"INTERNAL": 1}
        desk.close()
