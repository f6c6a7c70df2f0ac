"""The story that the demonstration tells: the loop goes round once, on a stream whose truth is known."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdtrue_contracts.common.v1.measures_pb2 import Measure, MeasureKind, Outcome
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.deployer.v1.deployment_service_pb2 import RolloutHistory, RolloutPolicy
from holdtrue_contracts.deployer.v1.rollouts_pb2 import Rollout, RolloutState
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema
from holdtrue_contracts.registry.v1.model_service_pb2 import Model, ModelVersionState, ModelVersionView
from holdtrue_contracts.trainer.v1.runs_pb2 import TriggerKind
from holdtrue_contracts.trainer.v1.trainer_service_pb2 import RetrainingPolicy, Run, RunState

from .desk import Desk, NotHappenedError, until
from .planted import RULES, TOTAL, Planted
from .stream import FEATURES, Phase, Stream
from .world import World, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue import Client
    from holdtrue_contracts.monitor.v1.monitor_service_pb2 import AlertNotification, RevisionHealth

    from .ledger import Chapter
    from .pace import Pace
    from .report import QuarantineReport

DATASET, MODEL = "payments", "fraud-check"
FLOOR = 0.75
"""Precision that the model's policy demands."""
_FINAL = {
    RolloutState.ROLLOUT_STATE_COMPLETED,
    RolloutState.ROLLOUT_STATE_ROLLED_BACK,
    RolloutState.ROLLOUT_STATE_FAILED,
}
_NEVER_BY_ITSELF_SECONDS = 120.0
"""How long the story waits for anything that happens within a few seconds on a machine that does nothing else."""


class Story:
    """One telling. `tell` prints line by line through ``say``."""

    def __init__(self, pace: Pace, seed: int, client: Client, desk: Desk, say: Callable[[str], None]) -> None:
        """Prepare to tell it on a running, empty platform."""
        self._pace, self._seed, self._client, self._desk, self._say = pace, seed, client, desk, say
        self._stream = Stream(seed)
        self._planted = Planted()
        self.quarantine: QuarantineReport
        self.model: Model
        self.world: World
        self.changed_ns = 0
        """When the concept changed."""

    async def tell(self) -> None:
        """Go round the loop once.

        Raises:
            NotHappenedError: a part of the loop did not happen.
        """
        listening = asyncio.create_task(self._desk.listen(self._heard))
        try:
            await self._offer_history()
            await self._train_first()
            await self._deploy_first()
            await self._live_through_phases()
        finally:
            listening.cancel()
            await asyncio.wait([listening])

    async def _offer_history(self) -> None:
        rows = self._pace.history_rows
        schema = DatasetSchema(
            columns=[
                *(ColumnSpec(name=name, dtype="float32") for name in FEATURES),
                ColumnSpec(name="fraud", dtype="int64"),
            ],
            label="fraud",
            time="at",
        )
        await self._desk.create_dataset(DATASET, schema, RULES)
        await asyncio.to_thread(self._send_history, rows)
        version = await self._desk.published(DATASET, rows, _NEVER_BY_ITSELF_SECONDS)
        self._say(f"data       {rows:,} labelled payments arrived as events: dataset {DATASET}@{version.version}")
        self.quarantine = self._planted.compare(await self._desk.rejects(DATASET))
        self._say(f"refused    {self.quarantine}")

    def _send_history(self, rows: int) -> None:
        past = self._stream.take(rows, Phase.STABLE)
        start, step, every = time.time() - 3600, 3600 / rows, rows // TOTAL
        with self._client.producer() as producer:
            for i, (x, y) in enumerate(zip(past.x, past.y.tolist(), strict=True)):
                good, at = {**row(x), "fraud": y}, start + i * step
                if i % every == 0 and i < every * TOTAL:
                    producer.event(DATASET, self._planted.spoil(good, at), at=at)
                producer.event(DATASET, good, at=at)

    async def _train_first(self) -> None:
        self.model = await self._desk.create_model(MODEL, FLOOR)
        run = await self._desk.submit(self.model, DATASET, "gradient_boosting", self._seed)
        await self._candidate(run)

    async def _candidate(self, run: Run) -> ModelVersionView:
        """Wait for a run and its gate; say how both ended."""
        ended = await self._desk.ended(run.spec.run_id, _NEVER_BY_ITSELF_SECONDS)
        if ended.state != RunState.RUN_STATE_SUCCEEDED:
            raise NotHappenedError(f"run {run.spec.run_id} failed: {ended.message}")
        self._say(
            f"training   run {run.spec.run_id[:8]} trained on {ended.result.train_rows:,} rows, "
            f"held out {ended.result.candidate.n:,}, took {ended.result.seconds:.1f} s"
        )
        view = await self._desk.judged(self.model, run.spec.run_id, _NEVER_BY_ITSELF_SECONDS)
        version = f"{MODEL}@{view.model_version.version}"
        for check in view.checks:
            self._say(f"gate       {version} {check.check}: {Outcome.Name(check.outcome)[8:].lower()}, {check.reason}")
        if view.state != ModelVersionState.MODEL_VERSION_STATE_APPROVED:
            raise NotHappenedError(f"{version} did not pass its gate: {view.reason}")
        return view

    async def _deploy_first(self) -> None:
        pace = self._pace
        policy = RolloutPolicy(
            auto=True,
            steps=pace.canary_steps,
            step_seconds=pace.step_seconds,
            step_rows=pace.step_rows,
            step_deadline_seconds=60,
            bake_seconds=pace.bake_seconds,
        )
        await self._desk.deploy(self.model, 1, policy)
        await self._rolled_out(1)
        await self._desk.set_retraining(
            RetrainingPolicy(
                model_id=self.model.model_id,
                dataset_id=(await self._desk.version(self.model, 1)).model_version.dataset_id,
                on_precision=True,
                cool_down_seconds=pace.cool_down_seconds,
                runs_per_day=4,
                min_new_labels=pace.min_new_labels,
                last_rows=pace.history_rows,
            )
        )

    async def _rolled_out(self, version: int) -> RolloutHistory:
        """Wait until a rollout is over; say each step."""
        told = 0

        async def look() -> RolloutHistory | None:
            nonlocal told
            history = await self._desk.rollout(self.model, version)
            if history is None:
                return None
            for change in history.changes[told:]:
                self._say(_step(version, change.rollout))
            told = len(history.changes)
            return history if history.rollout.state in _FINAL else None

        history = await until(look, _NEVER_BY_ITSELF_SECONDS, f"the rollout of {MODEL}@{version}")
        if history.rollout.state != RolloutState.ROLLOUT_STATE_COMPLETED:
            raise NotHappenedError(f"{MODEL}@{version} was rolled back: {history.rollout.reason}")
        return history

    async def _live_through_phases(self) -> None:
        with self._client.producer() as producer, self._client.model(MODEL) as model:
            self.world = World(self._pace, self._stream, model, producer, DATASET)
            living = asyncio.create_task(self.world.run())
            try:
                await self._phases()
                await self.world.finish()
            finally:
                if not self.world.finished:
                    living.cancel()
                await asyncio.wait([living])
                self.world.ledger.close(time.time_ns())
        living.result()
        await self._labels_counted()
        for chapter in self.world.ledger.chapters:
            self._say(_told(chapter, await self._desk.figures(self.model, chapter.from_ns, chapter.to_ns)))

    async def _phases(self) -> None:
        pace = self._pace
        await self._phase(Phase.STABLE, "stable", pace.stable_windows)
        await self._phase(Phase.COVARIATE, "covariate shift", pace.covariate_windows)
        self.changed_ns = (await self.world.enter(Phase.CONCEPT, "concept drift")).from_ns
        self._say("world      fraud changes its pattern, for good; nobody tells the platform")
        run = await until(self._retraining, _NEVER_BY_ITSELF_SECONDS, "an alert that starts a run")
        view = await self._candidate(run)
        await self.world.enter(Phase.CONCEPT, "roll-out")
        await self._rolled_out(view.model_version.version)
        await self._phase(Phase.CONCEPT, "recovered", pace.recovered_windows)

    async def _phase(self, phase: Phase, name: str, windows: int) -> None:
        chapter = await self.world.enter(phase, name)
        self._say(f"world      {name}: {windows} windows of {self._pace.window_seconds:g} s")
        await asyncio.sleep(max(0.0, (chapter.from_ns + windows * self._pace.window_ns) / 1e9 - time.time() - 0.5))

    async def _retraining(self) -> Run | None:
        runs = await self._desk.runs(self.model)
        return next((run for run in runs if run.spec.trigger != TriggerKind.TRIGGER_KIND_MANUAL), None)

    async def _labels_counted(self) -> None:
        """Wait until the monitor has counted every label of every phase."""
        ledger = self.world.ledger

        async def look() -> RevisionHealth | None:
            health = await self._desk.figures(self.model, ledger.chapters[0].from_ns, ledger.chapters[-1].to_ns)
            return health if health is not None and health.labelled >= ledger.answered else None

        await until(look, _NEVER_BY_ITSELF_SECONDS, "all labels to be counted")

    def _heard(self, notification: AlertNotification) -> None:
        alert, change = notification.alert, notification.change
        if change in {"raised", "resolved"}:
            self._say(f"alert      {change}: {alert.title}")


def measure(health: RevisionHealth | None, kind: MeasureKind.ValueType) -> Measure:
    """Return precision of one kind; NaN throughout where the monitor has none."""
    found = (m for m in (health.measures if health else ()) if m.name == "precision" and m.kind == kind)
    return next(found, Measure(value=math.nan, lower=math.nan, upper=math.nan))


def moment(ns: int) -> str:
    """Return a time in nanoseconds as RFC 3339."""
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _told(chapter: Chapter, health: RevisionHealth | None) -> str:
    realised = measure(health, MeasureKind.MEASURE_KIND_REALISED)
    return (
        f"truth      {chapter.name}: {len(chapter.ids):,} predictions, true precision {chapter.true_precision():.3f}, "
        f"realised {realised.value:.3f} ({realised.lower:.3f} to {realised.upper:.3f})"
    )


def _step(version: int, rollout: Rollout) -> str:
    state = RolloutState.Name(rollout.state)[14:].lower().replace("_", " ")
    return f"rollout    {MODEL}@{version} {state} at {rollout.weight / 100:g} %" + (
        f": {rollout.reason}" if rollout.reason else ""
    )
