"""When a model is retrained by itself: the one place where alerts, runs and rollouts meet.

`Retraining` remembers what has happened to one model; `decide` says what to do now. Both are pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - read at run time where the memory is stored
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

DAY = timedelta(days=1)
LONGEST_COOL_DOWN = timedelta(days=7)
REMEMBERED_ALERTS = 200
"""Ids of closed alerts that are kept, so that a late update cannot open them again."""


class Cause(StrEnum):
    """What a trigger reports."""

    PRECISION = "precision"
    DRIFT = "drift"


class Reason(StrEnum):
    """Why no run starts."""

    NO_TRIGGER = "no trigger"
    OPEN_RUN = "a run is open"
    OPEN_ROLLOUT = "a rollout is open"
    SUSPECT_DATA = "the newest dataset version is suspect"
    NO_DATA = "no dataset version"
    NO_RECIPE = "no recipe: submit one run by hand first"
    BROUGHT = "the model was brought along: bring a newer one"
    WAITING_FOR_LABELS = "waiting for labels"
    COOL_DOWN = "cool-down"
    BUDGET = "the day's runs are used up"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a model's owner allows. `dataset_id` is where retraining reads; `last_rows` 0 means all."""

    dataset_id: str
    on_precision: bool = True
    on_drift: bool = False
    cool_down: timedelta = timedelta(hours=6)
    runs_per_day: int = 4
    min_new_labels: int = 500
    last_rows: int = 0


@dataclass(frozen=True, slots=True)
class Trigger:
    """An open alert that may start a run.

    `concept`: realised precision is below its floor, so rows from before `first_bad_ns` would teach the old pattern.
    """

    alert_id: str
    cause: Cause
    deployment_id: str
    model_version: int
    concept: bool
    first_bad_ns: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """The newest version of the policy's dataset; `later`: its labelled rows by the event time they count from."""

    dataset_id: str
    name: str
    version: int
    suspect: bool
    later: Mapping[int, int] = field(default_factory=dict[int, int])


@dataclass(frozen=True, slots=True)
class Start:
    """Start a run now."""

    dataset: Dataset
    cause: Cause
    alert_ids: tuple[str, ...]
    from_ns: int
    last_rows: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Start nothing; decide again at `until`, or only when something happens if that is None.

    `from_ns`: when it waits for labels, the event time from which labelled rows count.
    """

    reason: Reason
    until: datetime | None = None
    detail: str = ""
    from_ns: int = 0

    def __str__(self) -> str:
        """Say it to a person."""
        return f"{self.reason}{f': {self.detail}' if self.detail else ''}"


Decision = Start | Wait


@dataclass(frozen=True, slots=True)
class Retraining:
    """What has happened to one model, as far as retraining must know.

    `quiet_since`: when its last run, verdict or rollout ended. `setbacks`: candidates that failed, were rejected or
    rolled back since the last promotion. `starts`: runs of the last day that began by themselves. `champions`: the
    version that serves, by deployment.
    """

    policy: Policy
    open_run: str = ""
    open_rollouts: tuple[str, ...] = ()
    quiet_since: datetime | None = None
    setbacks: int = 0
    starts: tuple[datetime, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    closed_alerts: tuple[str, ...] = ()
    champions: Mapping[str, int] = field(default_factory=dict[str, int])
    has_recipe: bool = False

    @property
    def cool_down(self) -> timedelta:
        """The cool-down after the setbacks so far."""
        return min(LONGEST_COOL_DOWN, self.policy.cool_down * 2 ** min(self.setbacks, 20))

    @property
    def active(self) -> tuple[Trigger, ...]:
        """The open triggers that the policy follows and that are about the version that serves."""
        followed = {Cause.PRECISION: self.policy.on_precision, Cause.DRIFT: self.policy.on_drift}
        return tuple(
            t for t in self.triggers if followed[t.cause] and self.champions.get(t.deployment_id) == t.model_version
        )

    def agreed(self, default: Policy, dataset_id: str) -> Retraining:
        """Follow the default policy, reading this dataset, unless a policy was set."""
        return self if self.policy.dataset_id else replace(self, policy=replace(default, dataset_id=dataset_id))

    def with_policy(self, policy: Policy) -> Retraining:
        """Follow another policy."""
        return replace(self, policy=policy)

    def run_requested(self, run_id: str, now: datetime, *, automatic: bool) -> Retraining:
        """Remember that a run is open."""
        starts = (*(start for start in self.starts if now - start < DAY), *((now,) if automatic else ()))
        return replace(self, open_run=run_id, starts=starts, has_recipe=True)

    def run_ended(self, run_id: str, now: datetime, *, failed: bool) -> Retraining:
        """Remember that a run has ended."""
        open_run = "" if self.open_run == run_id else self.open_run
        return replace(self._quiet(now), open_run=open_run, setbacks=self.setbacks + failed)

    def judged(self, now: datetime, *, rejected: bool) -> Retraining:
        """Remember the verdict on a candidate: its rollout, if any, begins within the cool-down."""
        return replace(self._quiet(now), setbacks=self.setbacks + rejected)

    def rollout_opened(self, rollout_id: str) -> Retraining:
        """Remember that a rollout is open."""
        return replace(self, open_rollouts=tuple(sorted({*self.open_rollouts, rollout_id})))

    def rolled_back(self, rollout_id: str, now: datetime) -> Retraining:
        """Remember that a rollout was taken back."""
        return replace(self.rollout_closed(rollout_id, now), setbacks=self.setbacks + 1)

    def promoted(self, rollout_id: str, deployment_id: str, version: int, now: datetime) -> Retraining:
        """Remember that a version serves a deployment: alerts about the one before it are answered."""
        older = (t for t in self.triggers if t.deployment_id == deployment_id and t.model_version != version)
        serving = self.alerts_closed([t.alert_id for t in older]).serving(deployment_id, version)
        return replace(serving.rollout_closed(rollout_id, now), setbacks=0)

    def serving(self, deployment_id: str, version: int) -> Retraining:
        """Remember which version serves a deployment; 0: none any more."""
        others = {name: number for name, number in self.champions.items() if name != deployment_id}
        return replace(self, champions=others | ({deployment_id: version} if version else {}))

    def alert_raised(self, trigger: Trigger) -> Retraining:
        """Remember an alert or what is new about it; a closed one stays closed."""
        if trigger.alert_id in self.closed_alerts:
            return self
        others = (t for t in self.triggers if t.alert_id != trigger.alert_id)
        return replace(self, triggers=(*others, trigger))

    def alerts_closed(self, alert_ids: Sequence[str]) -> Retraining:
        """Remember that alerts are over."""
        remaining = tuple(t for t in self.triggers if t.alert_id not in alert_ids)
        closed = (*(a for a in self.closed_alerts if a not in alert_ids), *alert_ids)
        return replace(self, triggers=remaining, closed_alerts=closed[-REMEMBERED_ALERTS:])

    def rollout_closed(self, rollout_id: str, now: datetime) -> Retraining:
        """Remember that a rollout is over."""
        return replace(self._quiet(now), open_rollouts=tuple(r for r in self.open_rollouts if r != rollout_id))

    def _quiet(self, now: datetime) -> Retraining:
        return replace(self, quiet_since=max(now, self.quiet_since or now))


def decide(memory: Retraining, dataset: Dataset | None, now: datetime) -> Decision:
    """Say whether a run starts now, or why not and until when."""
    triggers = memory.active
    if not triggers:
        return Wait(Reason.NO_TRIGGER)
    hindrance = _hindrance(memory, dataset) or _pause(memory, now)
    if hindrance or dataset is None:
        return hindrance or Wait(Reason.NO_DATA)
    concept = [trigger for trigger in triggers if trigger.concept]
    ids = tuple(sorted(trigger.alert_id for trigger in triggers))
    if not concept:
        return Start(dataset, triggers[0].cause, ids, 0, memory.policy.last_rows)
    from_ns = min(trigger.first_bad_ns for trigger in concept)
    labelled, needed = dataset.later.get(from_ns, 0), memory.policy.min_new_labels
    if labelled < needed:
        return Wait(Reason.WAITING_FOR_LABELS, None, f"{labelled} of {needed}", from_ns)
    return Start(dataset, concept[0].cause, ids, from_ns, 0)


def _hindrance(memory: Retraining, dataset: Dataset | None) -> Wait | None:
    """What only an event can end."""
    hindrances = {
        Reason.OPEN_RUN: bool(memory.open_run),
        Reason.OPEN_ROLLOUT: bool(memory.open_rollouts),
        Reason.NO_RECIPE: not memory.has_recipe,
        Reason.NO_DATA: dataset is None,
        Reason.SUSPECT_DATA: dataset is not None and dataset.suspect,
    }
    return next((Wait(reason) for reason, holds in hindrances.items() if holds), None)


def _pause(memory: Retraining, now: datetime) -> Wait | None:
    """What time alone ends."""
    rested = memory.quiet_since + memory.cool_down if memory.quiet_since else now
    if now < rested:
        return Wait(Reason.COOL_DOWN, rested, f"until {rested:%Y-%m-%d %H:%M:%S} UTC")
    recent = sorted(start for start in memory.starts if now - start < DAY)
    if len(recent) < memory.policy.runs_per_day:
        return None
    free = recent[-memory.policy.runs_per_day] + DAY if memory.policy.runs_per_day else None
    return Wait(Reason.BUDGET, free, f"{len(recent)} of {memory.policy.runs_per_day} within a day")
