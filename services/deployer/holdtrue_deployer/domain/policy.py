"""How versions of a deployment are rolled out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = 10_000
"""All traffic, in basis points."""
MAX_STEPS = 50
_DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Times in seconds, weights in basis points, margins from 0 to 1; the defaults are those of the product."""

    automatic: bool = False
    """Whether approved versions are rolled out by themselves."""
    steps: tuple[int, ...] = (500, 2_500, 5_000)
    """Weights of the challenger before it gets everything, strictly rising."""
    step_seconds: float = 600
    """A step takes at least so long, counted from convergence."""
    step_rows: int = 500
    """The challenger must have predicted so many rows in a step."""
    step_deadline_seconds: float = 21_600
    """After so long without a verdict a step is held."""
    auto_rollback: bool = True
    """Whether critical alerts soon after completion start a reverse rollout."""
    precision_margin: float = 0.05
    """Precision that a challenger may lose against the champion."""
    bake_seconds: float = 1_800
    """How long the challenger is watched at 100 %."""
    latency_budget_seconds: float = 0.1
    """An answer within this time is never slow."""

    def at_once(self) -> Policy:
        """Return the policy of a way back: no steps, and no bake, because the target has been through both."""
        return replace(self, steps=(), bake_seconds=0.0)


def problems(policy: Policy) -> Iterator[tuple[str, str]]:
    """Say what is wrong with a policy: field and description."""
    yield from _step_problems(policy.steps)
    for field in ("step_seconds", "step_deadline_seconds", "bake_seconds", "latency_budget_seconds"):
        seconds = getattr(policy, field)
        if not (math.isfinite(seconds) and 0 <= seconds <= 30 * _DAY):
            yield field, f"must be from 0 to {30 * _DAY:.0f} seconds, got {seconds}"
    if policy.step_deadline_seconds < policy.step_seconds:
        yield "step_deadline_seconds", f"must not be shorter than step_seconds ({policy.step_seconds:g})"
    if policy.step_rows < 0:
        yield "step_rows", f"must not be negative, got {policy.step_rows}"
    if not 0 < policy.precision_margin < 1:
        yield "precision_margin", f"must be above 0 and below 1, got {policy.precision_margin}"


def _step_problems(steps: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    if len(steps) > MAX_STEPS:
        yield "steps", f"at most {MAX_STEPS} steps, got {len(steps)}"
    for i, weight in enumerate(steps):
        if not 0 < weight < FULL:
            yield f"steps[{i}]", f"must be above 0 and below {FULL} basis points, got {weight}"
    if any(before >= after for before, after in pairwise(steps)):
        yield "steps", f"must rise strictly, got {list(steps)}"
