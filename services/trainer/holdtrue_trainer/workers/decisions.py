"""Decide about retraining, with the rows counted that the decision needs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.registry.v1.datasets_pb2 import DATASET_VERSION_STATUS_PUBLISHED
from holdtrue_contracts.trainer.v1.runs_pb2 import RunSpec, TriggerKind
from holdtrue_core.ids import uuid7

from holdtrue_trainer import commands
from holdtrue_trainer.domain.policy import Cause, Dataset, Reason, Start, Wait, decide
from holdtrue_trainer.domain.recipe import parse
from holdtrue_trainer.domain.run import Run, seed_of
from holdtrue_trainer.store import DatasetStore, DeploymentStore, RetrainingStore, RunStore
from holdtrue_trainer.workers import lake

if TYPE_CHECKING:
    from pathlib import Path

    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished
    from holdtrue_core.clock import Clock
    from holdtrue_events.outbox import Outbox, Transaction
    from holdtrue_storage.jobs import Job, Lease

Counts = dict[tuple[int, int], int]
"""Labelled rows by dataset version and event time from which they count."""
TRIGGERS = {Cause.PRECISION: TriggerKind.TRIGGER_KIND_PRECISION, Cause.DRIFT: TriggerKind.TRIGGER_KIND_DRIFT}


class Decisions:
    """Handler of the jobs that look at a model's policy."""

    def __init__(self, outbox: Outbox, root: Path, clock: Clock) -> None:
        """Keep what it works with; `root` is the folder of the datasets' tables."""
        self._outbox = outbox
        self._root = root
        self._clock = clock

    async def work(self, job: Job, lease: Lease) -> None:
        """Decide; where rows must be counted first, count them outside the transaction and decide again."""
        actor = Actor(job.tenant, "trainer", ActorKind.SERVICE)
        counted: Counts = {}
        while True:
            async with self._outbox.transaction(actor) as tx:
                uncounted = await self._decide(tx, job.payload["model_id"], counted)
                if uncounted is None:
                    await lease.complete(tx)
                    return
            dataset, from_ns = uncounted
            rows = await asyncio.to_thread(lake.labelled_since, self._root, dataset, from_ns)
            counted[dataset.version, from_ns] = rows

    async def _decide(
        self, tx: Transaction, model_id: str, counted: Counts
    ) -> tuple[DatasetVersionPublished, int] | None:
        """Decide and act; or return the version, and the event time from which its rows must be counted first."""
        memory = await RetrainingStore(tx).lock(model_id, commands.NOTHING_AGREED)
        published = await DatasetStore(tx).find(memory.policy.dataset_id) if memory.policy.dataset_id else None
        decision = decide(memory, published and _dataset(published, counted), self._clock.now())
        if isinstance(decision, Start):
            await self._start(tx, model_id, decision)
            return None
        if published and decision.from_ns and (published.version, decision.from_ns) not in counted:
            return published, decision.from_ns
        await RetrainingStore(tx).set_decision(model_id, str(decision))
        if decision.until is not None:
            await commands.decide_soon(tx, model_id, decision.until)
        return None

    async def _start(self, tx: Transaction, model_id: str, decision: Start) -> None:
        """Start a run like the champion's, otherwise like the newest; none if that only judged what was brought."""
        model_name = await RetrainingStore(tx).name(model_id)
        champion = await DeploymentStore(tx).champion(model_id, model_name)
        made = await RunStore(tx).of_manifest(champion.manifest_digest) if champion else None
        recipe = (made or await RunStore(tx).newest(model_id)).spec.recipe
        if parse(recipe).artifact:
            await RetrainingStore(tx).set_decision(model_id, str(Wait(Reason.BROUGHT)))
            return
        dataset = decision.dataset
        run_id = uuid7()
        spec = RunSpec(
            run_id=run_id,
            model_id=model_id,
            model_name=model_name,
            dataset_id=dataset.dataset_id,
            dataset_name=dataset.name,
            dataset_version=dataset.version,
            recipe=recipe,
            seed=parse(recipe).seed or seed_of(run_id),
            trigger=TRIGGERS[decision.cause],
            alert_ids=decision.alert_ids,
            from_ns=decision.from_ns,
            last_rows=decision.last_rows,
        )
        await commands.add(tx, Run(spec, self._clock.now(), automatic=True))
        await RetrainingStore(tx).set_decision(model_id, f"started run {run_id}: {decision.cause}")


def _dataset(published: DatasetVersionPublished, counted: Counts) -> Dataset:
    later = {from_ns: rows for (version, from_ns), rows in counted.items() if version == published.version}
    suspect = published.status != DATASET_VERSION_STATUS_PUBLISHED
    return Dataset(published.dataset_id, published.name, published.version, suspect, later)
