"""Lanes: each answers for one revision, batch by batch.

What has arrived over all connections while the loop was busy, or while a batch ran in a thread, is the next batch: so
batches grow with the load, and while there is none nobody waits for a window. Every lane belongs to one routing table;
a new table has new lanes, and the old ones end with the requests that they hold.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import structlog
from holdtrue_contracts import prediction_id
from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState, LogMode, Revision, Role
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_models import WorkerAway

from holdtrue_inference.domain import answers, records
from holdtrue_inference.domain.answers import Answer, Interpreter
from holdtrue_inference.domain.errors import Expired, NotServing, Overloaded, SpoolFull
from holdtrue_inference.domain.inputs import InputReader, check_id
from holdtrue_inference.domain.replies import ReplyWriter, Wanted, typed
from holdtrue_inference.gathering import Gathering

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from holdtrue_contracts.oip.inference_pb2 import ModelInferRequest
    from holdtrue_models.signature import Signature
    from numpy.typing import NDArray

    from holdtrue_inference.domain.estimate import RunTime
    from holdtrue_inference.metrics import Traffic

MAX_BATCH_ROWS = 1024
INLINE_SECONDS = 0.0003
"""Runs that are expected to be shorter stay on the event loop."""
FAILURES_SECONDS = 0.1
"""How long failures may wait for one record of theirs."""
_MILLISECONDS = 1000

_log = structlog.stdlib.get_logger("holdtrue.inference.serving")


class Model(Protocol):
    """A loaded model."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities [n, classes] of rows [n, columns]."""
        ...


@dataclass(frozen=True)
class Warm:
    """A model that has run, with how long that took, and the thread for its longer runs.

    `inline`: short runs may hold up the event loop; not those that wait for another process. `failed` says why the
    model will not answer any more; nothing as long as it may.
    """

    model: Model
    run_time: RunTime
    score_map: prediction_id.ScoreMap
    thread: Executor
    inline: bool = True
    failed: Callable[[], str] = str


class Log(Protocol):
    """The prediction log, as a lane sees it."""

    @property
    def full(self) -> bool:
        """Whether it refuses everything at the moment."""
        ...

    def append(self, chunks: Sequence[bytes]) -> int:
        """Keep chunks; return the number of the last. Raises SpoolFull."""
        ...

    async def replicated(self, number: int) -> bool:
        """Wait until Kafka has the chunk of that number; False if that took too long and the disk has it instead."""
        ...


class Failed(Exception):
    """The model could not run. The text is only an id, which the log explains."""


@dataclass(slots=True)
class Job:
    """A request that waits for its batch."""

    x: NDArray[np.float32]
    request_id: bytes
    external_id: str
    arrival_ns: int
    deadline: float
    wanted: Wanted
    raw: bool
    reply: asyncio.Future[bytes]


@dataclass(frozen=True, slots=True)
class Computed:
    """A batch that ran."""

    x: NDArray[np.float32]
    counts: list[int]
    answer: Answer
    tails: NDArray[np.uint64]


Outcome = tuple[list[Job], Computed | Failed | NotServing]


class Lane:
    """Answers for one revision of a deployment."""

    def __init__(  # noqa: PLR0913  what a lane is made of
        self,
        state: DeploymentState,
        revision: Revision,
        warm: Warm,
        *,
        log: Log,
        traffic: Traffic,
        replica_id: str,
    ) -> None:
        """Take a warm model. Raises ValueError for one that cannot be served."""
        signature = warm.model.signature
        interpreter = Interpreter(signature, revision.threshold or signature.threshold or 0.0, warm.score_map)
        self.revision = revision
        self.signature = signature
        self.failed: Counter[str] = Counter()
        self._deployment_id, self._id_key = state.deployment_id, state.id_key
        self._warm = warm
        self._interpreter = interpreter
        self._log = log
        self._traffic = traffic
        self._loop = asyncio.get_running_loop()
        self._reader = InputReader(signature)
        self._context = _context(state, revision, signature, replica_id)
        self._recorded = revision.log_mode != LogMode.LOG_MODE_OFF
        self._acknowledged = revision.log_mode == LogMode.LOG_MODE_ACK
        durability = "SPOOLED" if self._recorded else "BEST_EFFORT"
        self._writer = self._writer_of(state.name, durability)
        self._replicated_writer = self._writer_of(state.name, "REPLICATED")
        self._waiting: list[Job] = []
        self._rows = 0
        self._busy = False
        self._gathering = Gathering(self._turn)
        self._failures_due = False
        self._replies = set[asyncio.Task[None]]()

    def submit(
        self, request: ModelInferRequest, request_id: bytes, arrival_ns: int, remaining: float
    ) -> asyncio.Future[bytes]:
        """Read the request and put it into the next batch; the future gives the reply's bytes.

        `remaining` is the time until its deadline in seconds. Raises Refused.
        """
        if self._recorded and self._log.full:
            raise SpoolFull("the prediction log is full because Kafka has been away too long; try again later")
        check_id(request)
        x = self._reader.read(request)
        wanted = self._writer.wanted(request)
        rows = len(x)
        expected = self._warm.run_time.seconds(self._rows + rows)
        if expected > remaining and (self._rows or self._busy):  # alone it is tried: else a wrong estimate stays so
            raise Overloaded(
                f"{self._rows} rows wait, and the answer is expected in {expected:.3f} s, after the deadline in "
                f"{remaining:.3f} s; send less, or later",
                retry_after_ms=max(1, int(expected * _MILLISECONDS)),
            )
        reply = self._loop.create_future()
        now = self._loop.time()
        deadline = now + remaining
        raw = bool(request.raw_input_contents)
        self._waiting.append(Job(x, request_id, request.id, arrival_ns, deadline, wanted, raw, reply))
        self._rows += rows
        self._go_on()
        return reply

    def fail(self, code: str) -> None:
        """Count a request that was routed here and failed with that gRPC code."""
        self.failed[code] += 1
        if self._recorded and not self._failures_due:
            self._failures_due = True
            self._loop.call_later(FAILURES_SECONDS, self.record_failures)

    def _turn(self) -> int:
        """Run what has arrived; the number of requests."""
        jobs, rows = self._take()
        if not jobs:
            return 0
        if self._warm.inline and self._warm.run_time.seconds(rows) < INLINE_SECONDS:
            self._complete(self._attempt(jobs))
            self._go_on()
        else:
            self._busy = True
            run = self._loop.run_in_executor(self._warm.thread, self._attempt, jobs)
            run.add_done_callback(self._ran)
        return len(jobs)

    def _ran(self, run: asyncio.Future[list[Outcome]]) -> None:
        self._busy = False
        self._complete(run.result())
        self._go_on()

    def _go_on(self) -> None:
        """See to it that what waits will run."""
        if self._waiting and not self._busy:
            self._gathering.offer(len(self._waiting), full=self._rows >= MAX_BATCH_ROWS)

    def _take(self) -> tuple[list[Job], int]:
        """The next batch and its rows, without requests whose caller has gone or whose deadline has passed."""
        now = self._loop.time()
        jobs: list[Job] = []
        rows = taken = 0
        for job in self._waiting:
            if jobs and rows + len(job.x) > MAX_BATCH_ROWS:
                break
            taken += 1
            self._rows -= len(job.x)
            if job.reply.done():
                continue
            if job.deadline < now:
                job.reply.set_exception(Expired("the deadline passed while the request waited for the model"))
                continue
            jobs.append(job)
            rows += len(job.x)
        del self._waiting[:taken]
        return jobs, rows

    def _attempt(self, jobs: list[Job]) -> list[Outcome]:
        """Run a batch; if that fails, each of its requests alone, so that one cannot fail the others."""
        try:
            return [(jobs, self._compute(jobs))]
        except WorkerAway as away:
            _log.warning("a model's process is away", revision=self.revision.revision, reason=str(away))
            return [(jobs, NotServing("the model's process ended and is being started again; try again"))]
        except Exception:  # noqa: BLE001  a runtime may raise anything, and must not take the lane with it
            if len(jobs) > 1:
                return [outcome for job in jobs for outcome in self._attempt([job])]
            return [(jobs, self._incident("a model failed"))]

    def _incident(self, what: str) -> Failed:
        """Log the exception that is being handled; callers get only the id under which it is found there."""
        incident = str(uuid.uuid4())
        _log.exception(what, incident=incident, revision=self.revision.revision)
        return Failed(incident)

    def _compute(self, jobs: list[Job]) -> Computed:
        x = jobs[0].x if len(jobs) == 1 else np.concatenate([job.x for job in jobs])
        started = time.perf_counter()
        probabilities = self._warm.model.run(x)
        self._warm.run_time.learn(len(x), time.perf_counter() - started)
        answer = self._interpreter.read(probabilities)
        counts = [len(job.x) for job in jobs]
        tails = answers.tails([job.request_id for job in jobs], counts, self.revision.slot, answer, self._id_key)
        return Computed(x, counts, answer, tails)

    def _complete(self, outcomes: list[Outcome]) -> None:
        """Record what ran, then reply."""
        for jobs, computed in outcomes:
            if isinstance(computed, Failed | NotServing):
                _refuse(jobs, computed)
                continue
            answered_ns = time.time_ns()
            try:
                number = self._record(jobs, computed, answered_ns)
            except SpoolFull as refusal:
                _refuse(jobs, refusal)
                continue
            except OSError:
                _refuse(jobs, self._incident("the prediction log failed"))
                continue
            if self._acknowledged:
                self._reply_later(jobs, computed, number)
            else:
                self._reply(jobs, computed, self._writer)

    def _record(self, jobs: list[Job], computed: Computed, answered_ns: int) -> int:
        if not self._recorded:
            return 0
        batch = records.Batch(
            request_ids=[job.request_id for job in jobs],
            counts=computed.counts,
            arrivals_ns=[job.arrival_ns for job in jobs],
            external_ids=[job.external_id for job in jobs],
            answered_ns=answered_ns,
            tails=computed.tails,
            x=computed.x,
            scores=computed.answer.scores,
            classes=computed.answer.classes,
        )
        return self._log.append(records.chunks(self._context, batch))

    def _reply_later(self, jobs: list[Job], computed: Computed, number: int) -> None:
        task = self._loop.create_task(self._reply_replicated(jobs, computed, number))
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)

    async def _reply_replicated(self, jobs: list[Job], computed: Computed, number: int) -> None:
        replicated = await self._log.replicated(number)
        self._reply(jobs, computed, self._replicated_writer if replicated else self._writer)

    def _reply(self, jobs: list[Job], computed: Computed, writer: ReplyWriter) -> None:
        self._traffic.answered([job.arrival_ns for job in jobs], time.time_ns())
        rendered = writer.render(computed.answer)
        texts = prediction_id.tail_texts(computed.tails)
        start = 0
        for job, count in zip(jobs, computed.counts, strict=True):
            stop = start + count
            if not job.reply.done():
                reply = writer.write(
                    rendered,
                    start,
                    stop,
                    wanted=job.wanted,
                    external_id=job.external_id,
                    request_id=job.request_id,
                    tails=texts[14 * start : 14 * stop - 1],
                )
                job.reply.set_result(reply if job.raw else typed(reply))
            start = stop

    def record_failures(self) -> None:
        """Record the failures that were counted since the last time, if any."""
        self._failures_due = False
        if not self.failed:
            return
        failed, self.failed = self.failed, Counter()
        shed = failed.pop("RESOURCE_EXHAUSTED", 0)
        try:
            self._log.append([records.failures(self._context, failed, shed)])
        except SpoolFull:
            _log.warning("failures could not be recorded: the spool is full", failed=dict(failed), shed=shed)

    def _writer_of(self, model: str, durability: str) -> ReplyWriter:
        constants = {
            "holdtrue_revision": self.revision.revision,
            "holdtrue_role": Role.Name(self.revision.role).removeprefix("ROLE_").lower(),
            "holdtrue_durability": durability,
        }
        version = str(self.revision.model_version)
        return ReplyWriter(model, version, self.signature, self._interpreter.labels, constants)


def _context(state: DeploymentState, revision: Revision, signature: Signature, replica_id: str) -> bytes:
    """What all records of a revision have in common."""
    return PredictionsServed(
        replica_id=replica_id,
        deployment_id=state.deployment_id,
        revision=revision.revision,
        model_version=revision.model_version,
        role=revision.role,
        signature_digest=signature.digest,
    ).SerializeToString(deterministic=True)


def _refuse(jobs: Sequence[Job], reason: Exception) -> None:
    for job in jobs:
        if not job.reply.done():
            job.reply.set_exception(reason)
