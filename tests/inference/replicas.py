"""A replica whose models a test can hold, and whose loading it can make fail."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from holdtrue_contracts.inference.v1.replicas_pb2 import LoadState
from holdtrue_inference.lane import Lane, Warm
from holdtrue_inference.metrics import Traffic
from holdtrue_inference.serving import Serving
from holdtrue_inference.store.cache import DesiredStates
from holdtrue_inference.workers.replica import Replica

from tests.inference.lanes import QUICK, SIGNATURE, Always, Log, Model

if TYPE_CHECKING:
    from pathlib import Path

    from holdtrue_contracts.deployer.v1.deployments_pb2 import Revision
    from holdtrue_inference.domain.estimate import RunTime
    from holdtrue_models import Signature

READY, FAILED, LOADING = LoadState.LOAD_STATE_READY, LoadState.LOAD_STATE_FAILED, LoadState.LOAD_STATE_LOADING


class World:
    """A replica, and the models that it can load: each runs where and as long as `run_time` says."""

    def __init__(self, folder: Path, run_time: RunTime | None = None) -> None:
        self.models: dict[str, Model] = {}
        self.signatures: dict[str, Signature] = {}
        self.log, self.traffic = Log(), Traffic()
        self.broken: dict[str, Exception] = {}
        self.failed: dict[str, str] = {}
        self.loaded: list[str] = []
        self.may_load = threading.Event()
        self.may_load.set()
        self.cache = DesiredStates(folder)
        self._loader, self._pool = ThreadPoolExecutor(1), ThreadPoolExecutor(4)
        self.run_time = run_time or Always(QUICK)
        self.serving = Serving()
        make_lane = partial(Lane, log=self.log, traffic=self.traffic, replica_id="host/0")
        self.replica = Replica(self.serving, self.cache, self._load, make_lane, self._loader)

    async def live(self) -> None:
        await self.replica.start()
        self._running = asyncio.create_task(self.replica.run())

    async def end(self) -> None:
        self.may_load.set()
        for model in self.models.values():
            model.let_go()
        await self.replica.stop()
        await self._running
        self._loader.shutdown()
        self._pool.shutdown()

    async def until(self, *expected: tuple[str, int, dict[str, tuple[LoadState.ValueType, str]]]) -> None:
        """Wait until the replica says so: deployment, generation, and state with reason of each revision."""
        async with asyncio.timeout(60):
            while self.progress() != {name: (generation, states) for name, generation, states in expected}:
                self.replica.changed.clear()
                await self.replica.changed.wait()

    def progress(self) -> dict[str, tuple[int, dict[str, tuple[LoadState.ValueType, str]]]]:
        return {
            each.deployment_id.removeprefix("id-of-"): (
                each.generation,
                {r.revision: (r.state, r.reason) for r in each.revisions},
            )
            for each in self.replica.progress()
        }

    def served(self, name: str = "fraud") -> dict[str, int]:
        """Weights of the revisions in the table."""
        deployment = self.serving.table.deployments.get(name)
        return {} if deployment is None else {t.revision.revision: t.revision.weight for t in deployment.targets}

    def _load(self, revision_: Revision) -> Warm:
        assert self.may_load.wait(30)
        if revision_.revision in self.broken:
            raise self.broken[revision_.revision]
        self.loaded.append(revision_.revision)
        model = self.models[revision_.revision] = Model(self.signatures.get(revision_.revision, SIGNATURE))
        failed = partial(self.failed.get, revision_.revision, "")
        return Warm(model, self.run_time, "identity", self._pool, failed=failed)
