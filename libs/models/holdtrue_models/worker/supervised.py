"""A model that runs in a worker, which is started again when it dies."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdtrue_models.errors import ModelError, WorkerAway
from holdtrue_models.explain import recorded
from holdtrue_models.worker.process import LIMITS, RUN_SECONDS, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_stats.arrays import Float32s

    from holdtrue_models.manifest import Manifest
    from holdtrue_models.signature import Signature
    from holdtrue_models.worker.limits import Limits
    from holdtrue_models.worker.messages import Report


@dataclass(frozen=True, slots=True)
class Restarts:
    """When to start again: the first pause in seconds, doubled each time, and how many deaths in which time are enough.

    `clock` tells seconds.
    """

    pause: float = 0.1
    deaths: int = 3
    within: float = 60.0
    clock: Callable[[], float] = time.monotonic


class WorkerModel:
    """A model behind a process. A death costs the batch that it meets; too many in a short time are final."""

    def __init__(
        self,
        data: bytes,
        manifest: Manifest,
        *,
        limits: Limits = LIMITS,
        run_seconds: float = RUN_SECONDS,
        restarts: Restarts | None = None,
    ) -> None:
        """Start the worker. Raises as `Worker` does."""
        self.manifest = manifest
        self._make = lambda: Worker(data, manifest, limits=limits)
        self._run_seconds = run_seconds
        self._restarts = restarts or Restarts()
        self._deaths = deque[float](maxlen=self._restarts.deaths)
        self._changing = threading.Lock()
        self._stopped = threading.Event()
        self._restarter: threading.Thread | None = None
        self._failure = ""
        self._worker: Worker | None = self._make()
        self.report: Report = self._worker.report

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.manifest.signature

    @property
    def failed(self) -> str:
        """Why the model will not answer any more; empty as long as it may."""
        return self._failure

    def run(self, x: Float32s) -> Float32s:
        """Return the answer to the rows x float32 [n, d].

        Raises WorkerAway if the process dies over them, is being started again, or has failed for good.
        """
        worker = self._worker
        if worker is None:
            raise self._away()
        try:
            return worker.run(x, self._run_seconds)
        except WorkerAway as death:
            self._bury(worker, death)
            raise

    def explain(self) -> dict[str, float]:
        """Return the importances that were recorded. Raises UnsupportedModel if none were."""
        return recorded(self.manifest)

    def close(self) -> None:
        """End the process and start none again."""
        self._stopped.set()
        with self._changing:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
        if self._restarter is not None:
            self._restarter.join()

    def _away(self) -> WorkerAway:
        if self._failure:
            return WorkerAway(self._failure, failed=True)
        return WorkerAway("the process of the model is being started again; try again")

    def _bury(self, worker: Worker, death: WorkerAway) -> None:
        with self._changing:
            if self._worker is not worker:
                return
            self._worker = None
            now = self._restarts.clock()
            self._deaths.append(now)
            if len(self._deaths) == self._restarts.deaths and now - self._deaths[0] <= self._restarts.within:
                self._failure = f"the process of the model died {self._restarts.deaths} times; the last time: {death}"
                return
            self._restarter = threading.Thread(target=self._start_again, name="model-restart", daemon=True)
            self._restarter.start()

    def _start_again(self) -> None:
        """Wait longer after each death, then start; what was fine before and is refused now has failed."""
        recent = sum(self._restarts.clock() - death <= self._restarts.within for death in self._deaths)
        if self._stopped.wait(self._restarts.pause * 2 ** (recent - 1)):
            return
        try:
            worker = self._make()
        except (ModelError, OSError) as error:
            self._failure = f"the process of the model could not be started again: {error}"
            return
        with self._changing:
            if not self._stopped.is_set():
                self._worker = worker
                return
        worker.close()
