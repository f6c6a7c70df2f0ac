"""Between the domain and the messages of the contracts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
from holdtrue_contracts.columns import pack
from holdtrue_contracts.trainer.v1 import trainer_service_pb2 as pb
from holdtrue_contracts.trainer.v1.runs_pb2 import Evaluation, RunFailure, RunSpec, RunSucceeded
from holdtrue_core.rpc import timestamp

from holdtrue_trainer.child import exchange
from holdtrue_trainer.domain.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdtrue_models.manifest import Manifest

    from holdtrue_trainer.child.exchange import Judged, Success
    from holdtrue_trainer.domain.run import Run


def succeeded(
    spec: RunSpec, result: Success, manifest: Manifest, digests: Mapping[str, str], seconds: float
) -> RunSucceeded:
    """Return the event of a run whose files are stored under these digests, by file name."""
    message = RunSucceeded(
        model_id=spec.model_id,
        spec=spec,
        manifest_digest=digests[exchange.MANIFEST],
        artifact_digest=manifest.artifact.digest,
        kind=manifest.kind,
        canonical_digest=result.canonical_digest,
        reference_profile_digest=digests[exchange.PROFILE],
        threshold=result.threshold,
        candidate=_evaluation(result.candidate),
        train_rows=result.train_rows,
        train_from_ns=result.train_from_ns,
        train_to_ns=result.train_to_ns,
        holdout_from_ns=result.holdout_from_ns,
        holdout_to_ns=result.holdout_to_ns,
        pins=result.pins,
        importances=result.importances,
        seconds=seconds,
    )
    if result.champion is not None:
        message.champion.CopyFrom(_evaluation(result.champion))
        message.cells.CopyFrom(pack(np.array(result.cells, np.int64)))
    return message


def run(item: Run) -> pb.Run:
    """Return a run as callers see it."""
    message = pb.Run(
        spec=item.spec,
        state=pb.RunState.Value(f"RUN_STATE_{item.state.name}"),
        stage=item.stage,
        attempts=item.attempts,
        message=item.message,
        result=item.result,
        requested_at=timestamp(item.requested_at),
    )
    if item.failure is not None:
        message.failure = RunFailure.Value(f"RUN_FAILURE_{item.failure.name}")
    if item.ended_at is not None:
        message.ended_at.CopyFrom(timestamp(item.ended_at))
    return message


def policy(model_id: str, item: Policy) -> pb.RetrainingPolicy:
    """Return a policy as callers see it."""
    return pb.RetrainingPolicy(
        model_id=model_id,
        dataset_id=item.dataset_id,
        on_precision=item.on_precision,
        on_drift=item.on_drift,
        cool_down_seconds=item.cool_down.total_seconds(),
        runs_per_day=item.runs_per_day,
        min_new_labels=item.min_new_labels,
        last_rows=item.last_rows,
    )


def policy_of(message: pb.RetrainingPolicy) -> Policy:
    """Return the policy that a caller wants; its numbers must have been checked."""
    return Policy(
        dataset_id=message.dataset_id,
        on_precision=message.on_precision,
        on_drift=message.on_drift,
        cool_down=timedelta(seconds=message.cool_down_seconds),
        runs_per_day=message.runs_per_day,
        min_new_labels=message.min_new_labels,
        last_rows=message.last_rows,
    )


def _evaluation(judged: Judged) -> Evaluation:
    return Evaluation(
        model_version=judged.model_version,
        n=judged.n,
        metrics=judged.metrics,
        tp=judged.tp,
        fp=judged.fp,
        fn=judged.fn,
        tn=judged.tn,
    )
