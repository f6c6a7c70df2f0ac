"""The clock of the rollouts: looks at each open one and at the replicas, again and again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import structlog
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.inference.v1.replicas_pb2 import ReplicaState
from holdtrue_core.errors import HoldtrueError

from holdtrue_deployer import commands
from holdtrue_deployer.domain.replicas import Convergence, convergence
from holdtrue_deployer.domain.rollout import Observed, Rollout
from holdtrue_deployer.store import DeploymentStore, RolloutStore

if TYPE_CHECKING:
    from datetime import datetime

    from holdtrue_contracts.codec import Event
    from holdtrue_core.clock import Clock
    from holdtrue_events.outbox import Outbox, Transaction

    from holdtrue_deployer.domain.deployment import Deployment

_log = structlog.stdlib.get_logger("holdtrue.deployer")


class Replicas:
    """What the replicas last said of themselves, by record key; fed by a Mirror of replicas.v1."""

    def __init__(self) -> None:
        """Begin with none."""
        self._latest: dict[bytes, ReplicaState] = {}

    def apply(self, key: bytes, event: Event[Any] | None) -> None:
        """Take the latest of a replica, or its farewell."""
        if event is None:
            self._latest.pop(key, None)
        elif isinstance(event.data, ReplicaState):
            self._latest[key] = event.data

    def convergence(self, tenant: str, deployment: Deployment, rollout: Rollout | None, now: datetime) -> Convergence:
        """Say how far the tenant's replicas are with a deployment's desired state."""
        mine = (state for key, state in self._latest.items() if key.startswith(f"{tenant}/".encode()))
        needed = rollout.needed if rollout and not rollout.final else {deployment.champion} - {""}
        return convergence(mine, deployment.deployment_id, deployment.generation, needed, now)


class RolloutClock:
    """Gives every open rollout a tick, twice a second by default."""

    name = "rollout clock"

    def __init__(self, outbox: Outbox, replicas: Replicas, clock: Clock, poll_seconds: float) -> None:
        """Keep what it works with."""
        self._outbox = outbox
        self._replicas = replicas
        self._clock = clock
        self._poll = poll_seconds
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Nothing to prepare."""

    async def run(self) -> None:
        """Tick until the stop. While the database is away it waits for it; any other fault ends the service."""
        while not self._stopping.is_set():
            try:
                await self.tick()
            except HoldtrueError as error:
                if not error.retriable:
                    raise
                _log.warning("rollouts wait", why=error.message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._poll)

    async def stop(self) -> None:
        """Finish the tick in hand."""
        self._stopping.set()

    async def tick(self) -> None:
        """Look at every open rollout once; one that another process works on is left to it."""
        async with self._outbox.database.acquire() as connection:
            rows = await connection.fetch("SELECT tenant, deployment_id FROM rollout WHERE open ORDER BY due_at")
        for row in rows:
            actor = Actor(row["tenant"], "deployer", ActorKind.SERVICE)
            async with self._outbox.transaction(actor) as tx:
                await self._look(tx, row["deployment_id"])

    async def _look(self, tx: Transaction, deployment_id: str) -> None:
        stored = await DeploymentStore(tx).lock(deployment_id, skip=True)
        running = await RolloutStore(tx).open_of(deployment_id) if stored else None
        if stored is None or running is None:
            return
        now = self._clock.now()
        seen = self._replicas.convergence(tx.actor.tenant, stored.item, running.item, now)
        await commands.signal(tx, stored, Observed(seen), now)
