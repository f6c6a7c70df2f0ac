"""Training runs, and the whole way from data to a judged version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import yaml
from holdtrue_contracts.registry.v1.model_service_pb2 import ModelVersionState
from holdtrue_contracts.trainer.v1 import trainer_service_pb2
from holdtrue_contracts.trainer.v1.trainer_service_pb2 import (
    GetRunRequest,
    ListRunsRequest,
    Run,
    RunState,
    SubmitRunRequest,
    UploadModelRequest,
    UploadModelResponse,
)
from holdtrue_contracts.trainer.v1.trainer_service_pb2_grpc import TrainerServiceStub

from holdtrue.errors import GateFailed, InvalidArgument, RunFailed
from holdtrue.paging import pages
from holdtrue.waiting import Progress, silent, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from holdtrue_contracts.registry.v1.model_service_pb2 import ModelVersionView

    from holdtrue.connection import Connection
    from holdtrue.models import Models

DEFAULT_RECIPE = "gradient_boosting"
RUN_SECONDS = 3600.0
UPLOAD_SECONDS = 300.0  # as long as a service lets a call take
_CHUNK = 1 << 20
_GATE_SECONDS = 60.0
_ENDED = {RunState.RUN_STATE_SUCCEEDED, RunState.RUN_STATE_FAILED, RunState.RUN_STATE_CANCELLED}


@dataclass(frozen=True, slots=True)
class Trained:
    """A run that succeeded, and the version that it became."""

    run: Run
    version: ModelVersionView


class Runs:
    """The trainer's runs. What it returns are the platform's own messages."""

    def __init__(self, connection: Connection, models: Models) -> None:
        """Use `Client.runs` instead."""
        self._connection = connection
        self._call = connection.call
        self._models = models
        self._stub = TrainerServiceStub(connection.channel("trainer", trainer_service_pb2.DESCRIPTOR))

    def list(self, model: str = "") -> Iterator[Run]:
        """Yield the runs of a model, or all, newest first; raises NotFound for an unknown model."""
        model_id = self._models.get(model).model_id if model else ""
        return pages(
            lambda token: self._call(self._stub.ListRuns, ListRunsRequest(model_id=model_id, page_token=token)),
            lambda page: page.runs,
        )

    def get(self, run_id: str) -> Run:
        """Return a run by its id or a unique beginning of it; raises NotFound."""
        return self._call(self._stub.GetRun, GetRunRequest(run_id=run_id)).run

    def submit(  # noqa: PLR0913  what a run is made of
        self,
        model: str,
        dataset: str,
        *,
        dataset_version: int = 0,
        recipe: str = DEFAULT_RECIPE,
        min_precision: float = 0.0,
        seed: int = 0,
    ) -> Run:
        """Queue a run, making the model if needed; `recipe` is YAML or the name of a built-in one.

        A model is made only for a run that can be queued: what is refused leaves nothing behind. Raises NotFound,
        InvalidArgument, FailedPrecondition.
        """
        request = SubmitRunRequest(
            model_name=model,
            dataset=dataset,
            dataset_version=dataset_version,
            recipe=recipe,
            seed=seed,
            dry_run=True,
        )
        self._call(self._stub.SubmitRun, request)
        made = self._models.create(model, min_precision=min_precision)
        request.model_id, request.model_name, request.dry_run = made.model_id, made.name, False
        return self._call(self._stub.SubmitRun, request).run

    def judge(  # noqa: PLR0913  what is said of a model
        self,
        model: str,
        path: Path,
        dataset: str,
        *,
        dataset_version: int = 0,
        columns: Sequence[str] = (),
        positive_class: int | str | None = None,
        threshold: float = 0.5,
        min_precision: float = 0.0,
        progress: Progress = silent,
    ) -> Run:
        """Queue a run that judges a model from elsewhere, on rows that it should not have been trained on.

        `path`: a file of ONNX, XGBoost's UBJSON or LightGBM's text. `columns`: the dataset's columns in the order of
        the model's input; by default all of them but label and time. `threshold`: the score from which a row is
        flagged. `progress` hears how much of the file is sent. Raises InvalidArgument, NotFound, FailedPrecondition.
        """
        uploaded = self.upload(path, progress=progress)
        recipe = {
            "artifact": uploaded.digest,
            "columns": [*columns],
            "positive_class": positive_class,
            "threshold": threshold,
        }
        text = yaml.safe_dump(recipe, sort_keys=False)
        return self.submit(model, dataset, dataset_version=dataset_version, recipe=text, min_precision=min_precision)

    def upload(self, path: Path, *, progress: Progress = silent) -> UploadModelResponse:
        """Send a model file; a recipe refers to it by `artifact: <digest>`. Raises InvalidArgument."""
        try:
            with path.open("rb") as file:
                pieces = _pieces(file, path.stat().st_size, progress)
                return self._connection.upload(self._stub.UploadModel, pieces, UPLOAD_SECONDS)
        except OSError as error:
            raise InvalidArgument(f"{path}: {error.strerror}; give the path of a model file") from error

    def wait(self, run_id: str, *, timeout: float = RUN_SECONDS, progress: Progress = silent) -> Trained:
        """Wait until a run has become a version that passed its gate.

        Raises RunFailed, GateFailed, or DeadlineExceeded after `timeout` seconds. `progress` hears where it is.
        """
        run = until(lambda: self._ended(run_id, progress), timeout, f"run {run_id}")
        if run.state != RunState.RUN_STATE_SUCCEEDED:
            state = RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
            raise RunFailed(f"run {run_id} {state}: {run.message}", hint=f"see it: holdtrue runs show {run_id[:13]}")
        progress("waiting for the gate")
        view = until(lambda: self._judged(run), _GATE_SECONDS, f"the gate of run {run_id}")
        if view.state not in {
            ModelVersionState.MODEL_VERSION_STATE_APPROVED,
            ModelVersionState.MODEL_VERSION_STATE_VALIDATED,
        }:
            raise GateFailed(_refusal(view), hint=f"see it: holdtrue models show {_name(view)}")
        return Trained(run, view)

    def _ended(self, run_id: str, progress: Progress) -> Run | None:
        run = self.get(run_id)
        progress(run.stage or RunState.Name(run.state).removeprefix("RUN_STATE_").lower())
        return run if run.state in _ENDED else None

    def _judged(self, run: Run) -> ModelVersionView | None:
        """Return the version once its gate has spoken."""
        view = self._models.of_run(run.spec.model_id, run.spec.run_id)
        undecided = view is None or (view.state == ModelVersionState.MODEL_VERSION_STATE_REGISTERED and not view.checks)
        return None if undecided else view


def _pieces(file: BinaryIO, size: int, progress: Progress) -> Iterator[UploadModelRequest]:
    while data := file.read(_CHUNK):
        yield UploadModelRequest(data=data)
        progress(f"uploading, {10 * file.tell() // size * 10} %")


def _refusal(view: ModelVersionView) -> str:
    checks = "; ".join(f"{check.check}: {check.reason}" for check in view.checks)
    return f"{_name(view)} did not pass its gate: {view.reason or checks}"


def _name(view: ModelVersionView) -> str:
    return f"{view.model_version.name}@{view.model_version.version}"
