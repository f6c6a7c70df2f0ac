"""What changes runs and what retraining remembers: one function for each change, within a transaction.

Rows are locked in one order, so that changes never wait for each other in a circle: memory of the model, run, job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.trainer.v1.runs_pb2 import RunCancelled, RunFailed, RunFailure, RunRequested, RunStarted
from holdtrue_core.errors import FailedPrecondition, NotFound
from holdtrue_storage.jobs import enqueue

from holdtrue_trainer.domain.policy import Policy, Retraining
from holdtrue_trainer.domain.run import Run, RunClosedError, Trouble
from holdtrue_trainer.store import RetrainingStore, RunStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from holdtrue_contracts.trainer.v1.runs_pb2 import RunSucceeded
    from holdtrue_events.outbox import Transaction

RUN = "run"
"""Kind of the jobs that train."""
DECIDE = "decide"
"""Kind of the jobs that decide about retraining."""
NOTHING_AGREED = Policy(dataset_id="")
"""Policy of a model that was heard of but never trained here."""


async def remember(
    tx: Transaction, model_id: str, change: Callable[[Retraining], Retraining], model_name: str = ""
) -> Retraining:
    """Change what is remembered of a model, and decide anew if that is a change; return the memory."""
    store = RetrainingStore(tx)
    memory = await store.lock(model_id, NOTHING_AGREED, model_name)
    changed = change(memory)
    if changed != memory:
        await store.save(model_id, changed)
        await decide_soon(tx, model_id)
    return changed


async def decide_soon(tx: Transaction, model_id: str, at: datetime | None = None) -> None:
    """Have the policy of a model looked at, now or at a time. A decision too many changes nothing."""
    key = None if at is None else f"{model_id}@{at.isoformat()}"
    await enqueue(tx, DECIDE, {"model_id": model_id}, key, at)


async def request(tx: Transaction, run: Run, default: Policy) -> Run:
    """Queue a run. Raises FailedPrecondition if the model has an open one."""
    spec = run.spec
    await remember(tx, spec.model_id, lambda memory: memory.agreed(default, spec.dataset_id), spec.model_name)
    open_run = await RunStore(tx).open_of(spec.model_id)
    if open_run is not None:
        raise FailedPrecondition(
            f"run {open_run.id} of model {spec.model_name!r} is still {open_run.state}; wait for its end or cancel it",
            reason="OPEN_RUN",
        )
    await add(tx, run)
    return run


async def add(tx: Transaction, run: Run) -> None:
    """Queue a run of a model whose memory is locked and that has no open run."""
    spec = run.spec
    await RunStore(tx).add(run)
    await remember(
        tx, spec.model_id, lambda memory: memory.run_requested(run.id, run.requested_at, automatic=run.automatic)
    )
    tx.publish(RunRequested(model_id=spec.model_id, spec=spec))
    await enqueue(tx, RUN, {"run_id": run.id, "model_id": spec.model_id}, run.id)


async def start(tx: Transaction, run: Run, attempt: int) -> Run:
    """Say that the process of a locked run starts."""
    started = run.started(attempt)
    await RunStore(tx).save(started)
    tx.publish(RunStarted(model_id=run.spec.model_id, run_id=run.id, attempt=attempt))
    return started


async def succeed(tx: Transaction, run: Run, result: RunSucceeded, now: datetime) -> None:
    """End a locked run with a candidate."""
    await RunStore(tx).save(run.succeeded(result, now))
    await remember(tx, run.spec.model_id, lambda memory: memory.run_ended(run.id, now, failed=False))
    tx.publish(result)


async def fail(tx: Transaction, run: Run, trouble: Trouble, log_digest: str, now: datetime) -> None:
    """End a locked run without a candidate."""
    await RunStore(tx).save(run.failed(trouble, log_digest, now))
    await remember(tx, run.spec.model_id, lambda memory: memory.run_ended(run.id, now, failed=True))
    tx.publish(
        RunFailed(
            model_id=run.spec.model_id,
            run_id=run.id,
            failure=RunFailure.Value(f"RUN_FAILURE_{trouble.failure.name}"),
            message=trouble.message,
            log_digest=log_digest,
        )
    )


async def cancel(tx: Transaction, run_id: str, reason: str, now: datetime) -> Run:
    """End a run because a person wants it; its process, if any, is stopped soon after."""
    store = RunStore(tx)
    run = await locked(tx, run_id)
    try:
        cancelled = run.cancelled(reason, now)
    except RunClosedError as error:
        raise FailedPrecondition(f"{error}; only an open run can be cancelled", reason="RUN_CLOSED") from error
    await store.save(cancelled)
    await remember(tx, run.spec.model_id, lambda memory: memory.run_ended(run_id, now, failed=False))
    tx.publish(RunCancelled(model_id=run.spec.model_id, run_id=run_id, reason=reason))
    return cancelled


async def locked(tx: Transaction, run_id: str) -> Run:
    """Return a run, its model's memory and itself locked. Raises NotFound."""
    found = await RunStore(tx).get(run_id)
    if found is None:
        raise NotFound(f"there is no run {run_id!r}; `runs list` shows the runs", reason="RUN_UNKNOWN")
    await RetrainingStore(tx).lock(found.spec.model_id, NOTHING_AGREED)
    return await RunStore(tx).lock(run_id)
