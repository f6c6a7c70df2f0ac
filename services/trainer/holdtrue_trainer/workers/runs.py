"""Do a run: inputs, child, outputs, one transaction. A run ends once, whatever dies in between."""

from __future__ import annotations

import asyncio
import contextlib
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
from holdtrue_core.errors import HoldtrueError, Unavailable
from holdtrue_models.errors import ModelError
from holdtrue_models.manifest import Manifest

from holdtrue_trainer import commands, messages
from holdtrue_trainer.child import exchange
from holdtrue_trainer.child.exchange import Refusal, Stage, Success
from holdtrue_trainer.domain.run import MAX_ATTEMPTS, Failure, Run, Trouble
from holdtrue_trainer.store import RunStore
from holdtrue_trainer.workers.inputs import InputsMissingError
from holdtrue_trainer.workers.sandbox import Ending, run_limited

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_contracts.actor import Actor
    from holdtrue_contracts.trainer.v1.runs_pb2 import RunSucceeded
    from holdtrue_core.clock import Clock
    from holdtrue_events.outbox import Outbox
    from holdtrue_models.worker.limits import Limits
    from holdtrue_storage.blobs import Blobs
    from holdtrue_storage.jobs import Job, Lease

    from holdtrue_trainer.workers.inputs import Inputs

PROGRAM = ("-I", "-m", "holdtrue_trainer.child")
"""Arguments of the interpreter that make it the child."""
_CANCEL_SECONDS = 1.0
_STAGES: tuple[str, ...] = tuple(Stage.__args__)
_log = structlog.stdlib.get_logger("holdtrue.trainer")


class TryAgainError(Exception):
    """Something around the run broke; the job is tried again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to: a candidate, or why there is none and the log."""

    result: RunSucceeded | Trouble
    log: bytes = b""


class Runs:
    """Handler of the jobs that train."""

    def __init__(  # noqa: PLR0913, PLR0917  what a run needs
        self,
        outbox: Outbox,
        blobs: Blobs,
        inputs: Inputs,
        limits: Limits,
        clock: Clock,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        """Keep what it works with; `program` is what the child is."""
        self._outbox = outbox
        self._blobs = blobs
        self._inputs = inputs
        self._limits = limits
        self._clock = clock
        self._program = program

    async def work(self, job: Job, lease: Lease) -> None:
        """Do the run of a job, unless it has ended meanwhile."""
        run = await self._begin(job, lease)
        if run is None:
            return
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="holdtrue-run-") as name:
            outcome = await self._attempt(run, job.actor, Path(name), began)
        if outcome is not None:
            await self._finish(run, job, lease, outcome)

    async def _begin(self, job: Job, lease: Lease) -> Run | None:
        async with self._outbox.transaction(job.actor) as tx:
            run = await commands.locked(tx, job.payload["run_id"])
            await lease.check(tx)
            if not run.open:
                return None
            if job.attempts > MAX_ATTEMPTS:
                text = f"none of {MAX_ATTEMPTS} attempts came to a result; see the log of the trainer"
                await commands.fail(tx, run, Trouble(Failure.INFRASTRUCTURE, text), "", self._clock.now())
                return None
            return await commands.start(tx, run, job.attempts)

    async def _attempt(self, run: Run, actor: Actor, folder: Path, began: float) -> Outcome | None:
        """Return what the run came to; None if it was ended by somebody else."""
        try:
            await self._inputs.lay_out(run, actor, folder)
            ending = await self._train(run, actor, folder)
            return None if ending is None else await asyncio.to_thread(self._collect, run, folder, ending, began)
        except Unavailable:
            raise
        except (InputsMissingError, HoldtrueError, ModelError, msgspec.DecodeError, LookupError, OSError) as error:
            _log.warning("run failed around its training", run=run.id, error=str(error), exc_info=True)
            return Outcome(Trouble(Failure.INFRASTRUCTURE, f"{type(error).__name__}: {error}"))

    async def _train(self, run: Run, actor: Actor, folder: Path) -> Ending | None:
        """Run the child; stop it, and return None, when the run is ended by somebody else."""

        async def on_line(line: str) -> None:
            if line in _STAGES:
                await self._set_stage(run, actor, line)

        child = asyncio.create_task(run_limited(self._program, folder, self._limits, on_line))
        closed = asyncio.create_task(self._until_closed(run, actor))
        try:
            await asyncio.wait({child, closed}, return_when=asyncio.FIRST_COMPLETED)
            return await child if child.done() else None
        finally:
            child.cancel()
            closed.cancel()
            await asyncio.wait([child, closed])

    async def _set_stage(self, run: Run, actor: Actor, stage: str) -> None:
        with contextlib.suppress(Unavailable):  # only shown to people
            async with self._outbox.transaction(actor) as tx:
                await RunStore(tx).set_stage(run.id, stage)

    async def _until_closed(self, run: Run, actor: Actor) -> None:
        while True:
            await asyncio.sleep(_CANCEL_SECONDS)
            with contextlib.suppress(Unavailable):
                async with self._outbox.transaction(actor) as tx:
                    if not await RunStore(tx).is_open(run.id):
                        return

    def _collect(self, run: Run, folder: Path, ending: Ending, began: float) -> Outcome:
        """Take over what the child has left. Blocks."""
        if ending.trouble is not None:
            return Outcome(ending.trouble, ending.log)
        result = exchange.decode_result(self._declared(folder / exchange.RESULT).read_bytes())
        if isinstance(result, Refusal):
            return Outcome(Trouble(result.failure, result.message), ending.log)
        return Outcome(self._keep(run, folder, result, time.monotonic() - began))

    def _keep(self, run: Run, folder: Path, result: Success, seconds: float) -> RunSucceeded:
        """Store the files of a candidate as blobs, the manifest last, and see that it names the others."""
        manifest = Manifest.from_bytes(self._declared(folder / exchange.MANIFEST).read_bytes())
        named = {exchange.MODELS[role]: file.digest for role, file in manifest.files.items()}
        named[exchange.PROFILE] = manifest.reference_profile
        digests = {name: self._blobs.put_file(self._declared(folder / name)) for name in (*named, exchange.MANIFEST)}
        wrong = [name for name, digest in named.items() if digests[name] != digest]
        if wrong:
            raise InputsMissingError(f"the child's manifest does not fit its files {wrong}")
        return messages.succeeded(run.spec, result, manifest, digests, seconds)

    def _declared(self, path: Path) -> Path:
        """Return the path if it is a plain file of the size allowed; the child has ended, so it stays so."""
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > self._limits.file_bytes:
            raise InputsMissingError(f"the child left {path.name} as something else than a file of allowed size")
        return path

    async def _finish(self, run: Run, job: Job, lease: Lease, outcome: Outcome) -> None:
        result = outcome.result
        if isinstance(result, Trouble) and result.failure is Failure.INFRASTRUCTURE and job.attempts < MAX_ATTEMPTS:
            raise TryAgainError(result.message)
        log = await asyncio.to_thread(self._blobs.put, outcome.log) if outcome.log else ""
        async with self._outbox.transaction(job.actor) as tx:
            current = await commands.locked(tx, run.id)
            await lease.complete(tx)
            if not current.open:
                return
            if isinstance(result, Trouble):
                await commands.fail(tx, current, result, log, self._clock.now())
            else:
                await commands.succeed(tx, current, result, self._clock.now())
