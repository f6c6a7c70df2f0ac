"""What happens to datasets and models, each in one transaction: lock, decide in the domain, save, publish."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.datasets_pb2 import RecordsQuarantined
from holdtrue_contracts.registry.v1.models_pb2 import (
    ModelVersion,
    ModelVersionApproved,
    ModelVersionRegistered,
    ModelVersionRejected,
    ModelVersionValidated,
)
from holdtrue_events.react import Rejected
from holdtrue_lake.rules import rules_bytes

from holdtrue_registry.domain.evidence import evidence
from holdtrue_registry.domain.gate import State, judge
from holdtrue_registry.domain.lineage import run_edges
from holdtrue_registry.store.datasets import DatasetStore
from holdtrue_registry.store.lineage import LineageStore
from holdtrue_registry.store.models import ModelStore
from holdtrue_registry.store.rules import RuleStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdtrue_contracts.trainer.v1.runs_pb2 import RunSucceeded
    from holdtrue_events.outbox import Transaction
    from holdtrue_lake.commits import Commit
    from holdtrue_lake.rules import Rules
    from holdtrue_storage.blobs import Blobs

    from holdtrue_registry.domain.datasets import Dataset
    from holdtrue_registry.domain.gate import Verdict
    from holdtrue_registry.store.rules import RuleSet


class Progress:
    """Lets those who wait for ingestion look again when something was ingested by this process."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._next = asyncio.Event()

    def advance(self) -> None:
        """Wake all who wait."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return at the next advance, at the latest after so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._next.wait(), seconds)


async def record_commits(tx: Transaction, dataset: Dataset, commits: Iterable[Commit]) -> Dataset:
    """Take over what the table's log says beyond what is recorded; return the dataset after it.

    The dataset is locked; `commits` follow each other, and those already recorded are passed over.
    """
    store = DatasetStore(tx)
    for commit in commits:
        if commit.number > dataset.last_commit:
            dataset = await store.add_commit(dataset.id, commit)
            _tell_quarantined(tx, dataset.id, commit)
    return dataset


def _tell_quarantined(tx: Transaction, dataset_id: str, commit: Commit) -> None:
    for batch in commit.batches:
        if batch.quarantined:
            tx.publish(
                RecordsQuarantined(
                    dataset_id=dataset_id, batch_id=batch.batch_id, rows=batch.quarantined, codes=batch.codes
                )
            )


async def put_rules(  # noqa: PLR0913, PLR0917  what there is to say about rules
    tx: Transaction, blobs: Blobs, dataset: Dataset, rules: Rules, text: str, reason: str
) -> RuleSet:
    """Put rules in force for what is ingested from now on; those in force already change nothing.

    Their canonical form becomes a blob first, so that whoever ingests finds it by its digest.
    """
    digest = await asyncio.to_thread(blobs.put, rules_bytes(rules))
    await DatasetStore(tx).lock(dataset.id)
    newest = await RuleStore(tx).newest(dataset.id)
    if newest and newest.digest == digest:
        return newest
    return await RuleStore(tx).add(dataset.id, digest, text, reason)


async def register_run(tx: Transaction, blobs: Blobs, run: RunSucceeded) -> None:
    """Register the version that a run made, judge it, and tell what came out; a run that is known changes nothing.

    Raises Rejected where the run contradicts itself or its model is unknown.
    """
    models = ModelStore(tx)
    if await models.of_run(run.spec.run_id):
        return
    model = await models.find(run.model_id)
    if model is None:
        raise Rejected(
            f"run {run.spec.run_id} is of model {run.model_id}, which does not exist", reason="unknown_model"
        )
    try:
        verdict = judge(model.policy, run)
    except ValueError as error:
        raise Rejected(f"run {run.spec.run_id}: {error}", reason="bad_evidence") from error
    digest = await asyncio.to_thread(blobs.put, evidence(model.policy, run, verdict))
    version = _version(run, model.name, model.policy.min_precision, await models.next_number(model.id))
    state = State.APPROVED if verdict.state is State.VALIDATED and not model.policy.approvals else verdict.state
    await models.add_version(version, state, verdict, digest)
    await LineageStore(tx).add(run_edges(run.spec, version))
    _tell_verdict(tx, version, verdict, digest)
    if state is State.APPROVED:
        tx.publish(ModelVersionApproved(model_id=model.id, model_version=version))


def _version(run: RunSucceeded, name: str, min_precision: float, number: int) -> ModelVersion:
    return ModelVersion(
        model_id=run.model_id,
        name=name,
        version=number,
        manifest_digest=run.manifest_digest,
        artifact_digest=run.artifact_digest,
        kind=run.kind,
        reference_profile_digest=run.reference_profile_digest,
        run_id=run.spec.run_id,
        dataset_id=run.spec.dataset_id,
        dataset_version=run.spec.dataset_version,
        threshold=run.threshold,
        min_precision=min_precision,
    )


def _tell_verdict(tx: Transaction, version: ModelVersion, verdict: Verdict, digest: str) -> None:
    tx.publish(ModelVersionRegistered(model_id=version.model_id, model_version=version))
    if verdict.state is State.VALIDATED:
        tx.publish(
            ModelVersionValidated(
                model_id=version.model_id, model_version=version, evidence_digest=digest, checks=verdict.checks
            )
        )
    if verdict.state is State.REJECTED:
        tx.publish(
            ModelVersionRejected(
                model_id=version.model_id,
                model_version=version,
                evidence_digest=digest,
                checks=verdict.checks,
                reason=verdict.reason,
            )
        )
