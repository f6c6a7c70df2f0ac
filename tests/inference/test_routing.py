"""Who answers: in proportion, always the same for a key, and a key of the challenger's is never taken from it."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import pytest
from holdtrue_contracts.deployer.v1.deployments_pb2 import Revision, Role
from holdtrue_inference.domain.errors import NotServing, UnknownModel
from holdtrue_inference.domain.request_ids import RequestIds
from holdtrue_inference.domain.routing import Deployment, RoutingTable
from hypothesis import given
from hypothesis import strategies as st

CHAMPION, CHALLENGER, STANDBY = Role.ROLE_CHAMPION, Role.ROLE_CHALLENGER, Role.ROLE_STANDBY
KEYS = 50_000


@dataclass(frozen=True)
class Target:
    revision: Revision


def target(name: str, weight: int, role: Role.ValueType, slot: int = 0, version: int = 1) -> Target:
    return Target(Revision(revision=name, weight=weight, role=role, slot=slot, model_version=version))


def canary(weight: int, salt: bytes = b"rollout 1") -> Deployment[Target]:
    targets = (
        target("champion", 10_000 - weight, CHAMPION, 1, 1),
        target("challenger", weight, CHALLENGER, 2, 2),
        target("standby", 0, STANDBY, 3, 3),
    )
    return Deployment("d", "fraud", salt, targets)


def owners(deployment: Deployment[Target], keys: list[bytes]) -> list[str]:
    return [deployment.choose(key).revision.revision for key in keys]


@pytest.mark.parametrize("weight", [1, 100, 1_000, 5_000, 9_999])
@pytest.mark.parametrize("kind", ["numbers", "request ids"])
def test_shares_are_the_weights_within_three_sigma(weight: int, kind: str) -> None:
    ids = RequestIds(b"random")
    keys = [str(i).encode() if kind == "numbers" else ids.next(1_700_000_000_000_000_000 + i) for i in range(KEYS)]
    got = Counter(owners(canary(weight), keys))
    share = weight / 10_000
    assert abs(got["challenger"] - KEYS * share) <= 3 * math.sqrt(KEYS * share * (1 - share))
    assert got["champion"] + got["challenger"] == KEYS


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=6), st.binary(max_size=40), st.binary(max_size=20))
def test_raising_the_weight_takes_no_key_from_the_challenger(weights: list[int], key: bytes, salt: bytes) -> None:
    chosen = [canary(weight, salt).choose(key).revision.revision for weight in sorted(weights)]
    assert ("challenger", "champion") not in list(pairwise(chosen))


def test_raising_the_weight_adds_exactly_the_new_share() -> None:
    keys = [str(i).encode() for i in range(20_000)]
    before, after = owners(canary(1_000), keys), owners(canary(1_500), keys)
    moved = Counter(zip(before, after, strict=True))
    assert moved["challenger", "champion"] == 0
    assert moved["challenger", "challenger"] == before.count("challenger")
    assert 0 < moved["champion", "challenger"] < 2_000


@given(st.integers(0, 10_000), st.binary(max_size=40), st.binary(max_size=20))
def test_a_key_falls_on_the_point_that_everybody_can_compute(weight: int, key: bytes, salt: bytes) -> None:
    point = zlib.crc32(salt + key) / 2**32
    expected = "challenger" if point < weight / 10_000 else "champion"
    assert canary(weight, salt).choose(key).revision.revision == expected


def test_the_challenger_owns_the_points_below_its_weight_and_not_the_one_at_it() -> None:
    for key in (str(i).encode() for i in range(100)):
        point = zlib.crc32(b"rollout 1" + key) * 10_000 >> 32
        assert canary(point).choose(key).revision.revision == "champion"
        assert canary(point + 1).choose(key).revision.revision == "challenger"


def test_another_rollout_draws_other_keys() -> None:
    keys = [str(i).encode() for i in range(20_000)]
    first, second = owners(canary(1_000), keys), owners(canary(1_000, b"rollout 2"), keys)
    again = sum(a == b == "challenger" for a, b in zip(first, second, strict=True))
    assert again < 0.5 * first.count("challenger")


def test_the_order_of_the_targets_does_not_matter() -> None:
    keys = [str(i).encode() for i in range(1_000)]
    turned = Deployment("d", "fraud", b"rollout 1", tuple(reversed(canary(3_000).targets)))
    assert owners(turned, keys) == owners(canary(3_000), keys)


def test_weight_0_answers_nobody_but_who_asks_for_it() -> None:
    deployment = canary(0)
    assert set(owners(deployment, [str(i).encode() for i in range(1_000)])) == {"champion"}
    assert not deployment.keyed
    assert deployment.pinned("2").revision.revision == "challenger"
    assert deployment.pinned("3").revision.revision == "standby"


def test_pinning_ignores_weights_and_refuses_what_is_not_loaded() -> None:
    deployment = canary(5_000)
    assert deployment.keyed
    assert [deployment.pinned(v).revision.revision for v in "123"] == ["champion", "challenger", "standby"]
    assert deployment.versions == ["1", "2", "3"]
    for version in ("4", "01", "latest"):
        with pytest.raises(UnknownModel, match=f"'fraud' has no version '{version}' here; loaded: 1, 2, 3"):
            deployment.pinned(version)


@pytest.mark.parametrize(
    ("weights", "default"),
    [((6_000, 4_000), "champion"), ((4_000, 6_000), "challenger"), ((5_000, 5_000), "champion"), ((0, 0), None)],
)
def test_the_default_has_the_largest_share(weights: tuple[int, int], default: str | None) -> None:
    targets = target("champion", weights[0], CHAMPION), target("challenger", weights[1], CHALLENGER, 1)
    found = Deployment("d", "fraud", b"", targets).default
    assert (found.revision.revision if found else None) == default


def test_without_any_traffic_nobody_answers_unless_pinned() -> None:
    deployment = Deployment("d", "fraud", b"", (target("new", 0, CHAMPION),))
    with pytest.raises(NotServing, match="'fraud' has no revision with traffic yet"):
        deployment.choose(b"key")
    assert deployment.pinned("1").revision.revision == "new"


@pytest.mark.parametrize("weights", [[9_999], [10_001], [5_000, 4_000], [1]])
def test_weights_that_are_not_whole_are_refused(weights: list[int]) -> None:
    targets = tuple(target(f"r{i}", weight, STANDBY, i) for i, weight in enumerate(weights))
    with pytest.raises(ValueError, match="sum to 10000 basis points or to 0"):
        Deployment("d", "fraud", b"", targets)


def test_an_unknown_name_is_told_which_there_are() -> None:
    table = RoutingTable({"b": canary(0), "a": canary(0)})
    assert table.deployment("a") is table.deployments["a"]
    with pytest.raises(UnknownModel, match="no model 'c' here; served: a, b"):
        table.deployment("c")
    with pytest.raises(UnknownModel, match="served: none"):
        RoutingTable[Target]({}).deployment("c")
