"""Following the desired state: load what is missing, then swap the routing table, and say how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState, Revision
from holdtrue_contracts.inference.v1.replicas_pb2 import DeploymentProgress, LoadState, RevisionState
from holdtrue_contracts.oip.inference_pb2 import RepositoryIndexResponse
from holdtrue_core.errors import HoldtrueError
from holdtrue_core.rpc import timestamp
from holdtrue_models import ModelError

from holdtrue_inference.domain.routing import Deployment, check_weights
from holdtrue_inference.lane import Lane, Warm

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from holdtrue_inference.serving import Serving
    from holdtrue_inference.store.cache import DesiredStates

RETRY_SECONDS = 5.0
"""After which what could not be served is tried again: a blob may have arrived, or a name may be free."""

_INDEX_STATES = {
    LoadState.LOAD_STATE_LOADING: "LOADING",
    LoadState.LOAD_STATE_READY: "READY",
    LoadState.LOAD_STATE_FAILED: "UNAVAILABLE",
}

Load = Callable[[Revision], Warm]
MakeLane = Callable[[DeploymentState, Revision, Warm], Lane]

ModelIndex = RepositoryIndexResponse.ModelIndex

_log = structlog.stdlib.get_logger("holdtrue.inference.replica")


@dataclass
class _Deployment:
    """What this replica knows of a deployment."""

    desired: DeploymentState
    served: int = 0
    """Generation that is served; 0: none."""
    complete: bool = False
    """Whether all of its revisions are loaded, those without traffic included."""
    states: dict[str, RevisionState] = field(default_factory=dict[str, RevisionState])


class Replica:
    """The part of the service that makes what is served follow what is desired."""

    name = "replica"

    def __init__(
        self, serving: Serving, desired: DesiredStates, load: Load, make_lane: MakeLane, executor: Executor
    ) -> None:
        """Take how a revision is loaded, which happens on the executor, and how a lane is made of it."""
        self._serving = serving
        self._cache = desired
        self._load = load
        self._make_lane = make_lane
        self._executor = executor
        self._deployments: dict[str, _Deployment] = {}
        self._warm: dict[tuple[str, str], Warm] = {}
        self._work = asyncio.Event()
        self._stopping = False
        self.changed = asyncio.Event()
        """Set whenever `progress` has news."""

    @property
    def ready(self) -> bool:
        """Whether every deployment that is desired is served in some generation."""
        return not self._serving.draining and all(d.served for d in self._deployments.values())

    def desire(self, state: DeploymentState) -> None:
        """Learn a desired state; an older one than is known is ignored."""
        known = self._deployments.get(state.deployment_id)
        if known is None:
            self._deployments[state.deployment_id] = _Deployment(state)
        elif state.generation <= known.desired.generation:
            return
        else:
            known.desired = state
        self._work.set()

    def progress(self) -> list[DeploymentProgress]:
        """What is served and what is being loaded."""
        self._see_failures()
        return [
            DeploymentProgress(deployment_id=key, generation=known.served, revisions=known.states.values())
            for key, known in self._deployments.items()
        ]

    def index(self) -> list[ModelIndex]:
        """Every revision as the protocol's repository index lists it."""
        self._see_failures()
        return [
            ModelIndex(
                name=known.desired.name,
                version=str(revision.model_version),
                state=_INDEX_STATES[known.states[revision.revision].state],
                reason=known.states[revision.revision].reason,
            )
            for known in self._deployments.values()
            for revision in known.desired.revisions
            if revision.revision in known.states
        ]

    def _see_failures(self) -> None:
        """Say of revisions that were loaded and have failed since that they did."""
        for known in self._deployments.values():
            for revision in known.desired.revisions:
                warm = self._warm.get(_key(revision))
                if warm is not None and (reason := warm.failed()) and revision.revision in known.states:
                    _set(known.states[revision.revision], LoadState.LOAD_STATE_FAILED, reason)

    async def start(self) -> None:
        """Serve the last desired states from the disk, before anybody else is asked."""
        for state in await asyncio.to_thread(self._cache.load):
            self.desire(state)
        await self._catch_up()

    async def run(self) -> None:
        """Follow until the stop."""
        while not self._stopping:
            await self._work.wait()
            await self._catch_up()

    async def stop(self) -> None:
        """Follow no longer."""
        self._stopping = True
        self._work.set()

    async def _catch_up(self) -> None:
        self._work.clear()
        for known in list(self._deployments.values()):
            if (known.desired.generation > known.served or not known.complete) and not self._stopping:
                await self._apply(known, known.desired)
        self._forget_unused()

    async def _apply(self, known: _Deployment, desired: DeploymentState) -> None:
        """Bring one deployment to a desired state; if a revision with traffic cannot be loaded the old one stays."""
        if desired.deleted:
            self._delete(desired)
            return
        known.states = {r.revision: known.states.get(r.revision, _state(r)) for r in desired.revisions}
        self.changed.set()
        lanes = [lane for r in desired.revisions if (lane := await self._lane(known, desired, r)) is not None]
        missing = {r.revision for r in desired.revisions} - {lane.revision.revision for lane in lanes}
        known.complete = False
        if not any(r.weight for r in desired.revisions if r.revision in missing):
            await self._swap(known, desired, lanes, complete=not missing)
        self.changed.set()
        if not known.complete:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._work.set)

    async def _swap(self, known: _Deployment, desired: DeploymentState, lanes: list[Lane], *, complete: bool) -> None:
        try:
            check_weights(desired.revisions)
            self._serving.serve(
                desired.deployment_id,
                Deployment(desired.deployment_id, desired.name, desired.salt.encode(), tuple(lanes)),
            )
        except ValueError as error:
            for state in known.states.values():
                _set(state, LoadState.LOAD_STATE_FAILED, str(error))
            _log.exception("a desired state cannot be served", deployment=desired.name, generation=desired.generation)
            return
        await self._keep(desired)
        known.served, known.complete = desired.generation, complete
        _log.info("serving", deployment=desired.name, generation=desired.generation, complete=complete)

    async def _keep(self, desired: DeploymentState) -> None:
        try:
            await asyncio.to_thread(self._cache.save, desired)
        except OSError:
            _log.exception("a desired state could not be kept for the next start", deployment=desired.name)

    async def _lane(self, known: _Deployment, desired: DeploymentState, revision: Revision) -> Lane | None:
        """A lane for the revision, loaded first if need be; None if it cannot be had, with the reason in its state."""
        state = known.states[revision.revision]
        try:
            lane = self._make_lane(desired, revision, await self._warmed(revision, state))
        except (HoldtrueError, ModelError, ValueError, OSError, MemoryError) as error:
            _set(state, LoadState.LOAD_STATE_FAILED, str(error) or type(error).__name__)
            _log.warning("a revision cannot be loaded", revision=revision.revision, reason=state.reason)
            return None
        _set(state, LoadState.LOAD_STATE_READY)
        return lane

    async def _warmed(self, revision: Revision, state: RevisionState) -> Warm:
        key = _key(revision)
        if key not in self._warm:
            _set(state, LoadState.LOAD_STATE_LOADING)
            self.changed.set()
            loop = asyncio.get_running_loop()
            self._warm[key] = await loop.run_in_executor(self._executor, self._load, revision)
        return self._warm[key]

    def _delete(self, desired: DeploymentState) -> None:
        self._serving.serve(desired.deployment_id, None)
        del self._deployments[desired.deployment_id]
        self._cache.forget(desired.deployment_id)
        self.changed.set()

    def _forget_unused(self) -> None:
        """Let go of models that no table and no desired state has any more; their last batches still hold them."""
        served = (lane.revision for d in self._serving.table.deployments.values() for lane in d.targets)
        desired = (r for known in self._deployments.values() for r in known.desired.revisions)
        used = {_key(revision) for revision in _chain(served, desired)}
        for key in self._warm.keys() - used:
            del self._warm[key]


def _chain(*groups: Iterable[Revision]) -> Iterable[Revision]:
    for each in groups:
        yield from each


def _key(revision: Revision) -> tuple[str, str]:
    return revision.manifest_digest, revision.artifact_digest


def _state(revision: Revision) -> RevisionState:
    return RevisionState(
        revision=revision.revision, state=LoadState.LOAD_STATE_LOADING, since=timestamp(datetime.now(UTC))
    )


def _set(state: RevisionState, value: LoadState.ValueType, reason: str = "") -> None:
    if state.state != value:
        state.since.CopyFrom(timestamp(datetime.now(UTC)))
    state.state = value
    state.reason = reason
