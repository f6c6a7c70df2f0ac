"""A run from request to end. It ends once: whoever comes later finds it closed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from holdtrue_contracts.trainer.v1.runs_pb2 import RunSpec, RunSucceeded

MAX_ATTEMPTS = 3


class State(StrEnum):
    """State of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = frozenset({State.QUEUED, State.RUNNING})


class Failure(StrEnum):
    """Why a run failed. Only `infrastructure` is tried again."""

    USER_ERROR = "user_error"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    DATA = "data"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no candidate, and what to do."""

    failure: Failure
    message: str


class RunClosedError(Exception):
    """The run has ended already."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run. `automatic`: the policy started it; `stage`: where its process is, for a person."""

    spec: RunSpec
    requested_at: datetime
    automatic: bool = False
    state: State = State.QUEUED
    stage: str = ""
    attempts: int = 0
    failure: Failure | None = None
    message: str = ""
    log_digest: str = ""
    result: RunSucceeded | None = None
    ended_at: datetime | None = None

    @property
    def id(self) -> str:
        """The run's id."""
        return self.spec.run_id

    @property
    def open(self) -> bool:
        """Whether it can still change."""
        return self.state in OPEN

    def started(self, attempt: int) -> Run:
        """Return the run whose process starts for the nth time. Raises RunClosedError."""
        return replace(self._still_open(), state=State.RUNNING, attempts=attempt, stage="preparing")

    def succeeded(self, result: RunSucceeded, now: datetime) -> Run:
        """Return the run with its candidate. Raises RunClosedError."""
        return replace(self._still_open(), state=State.SUCCEEDED, stage="", result=result, ended_at=now)

    def failed(self, trouble: Trouble, log_digest: str, now: datetime) -> Run:
        """Return the run without a candidate. Raises RunClosedError."""
        run = replace(self._still_open(), state=State.FAILED, stage="", log_digest=log_digest, ended_at=now)
        return replace(run, failure=trouble.failure, message=trouble.message)

    def cancelled(self, reason: str, now: datetime) -> Run:
        """Return the run as a person has stopped it. Raises RunClosedError."""
        return replace(self._still_open(), state=State.CANCELLED, stage="", message=reason, ended_at=now)

    def _still_open(self) -> Run:
        if not self.open:
            raise RunClosedError(f"run {self.id} is {self.state} already")
        return self


def seed_of(run_id: str) -> int:
    """Return the seed that a run has if nobody gave one: 31 bits of the hash of its id."""
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:4]) >> 1
