"""Lay out what a child needs in its folder: the rows, the champion, the job."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdtrue_trainer.child import exchange
from holdtrue_trainer.child.exchange import ColumnNote, Job
from holdtrue_trainer.domain.recipe import parse
from holdtrue_trainer.store import DatasetStore, DeploymentStore, RunStore
from holdtrue_trainer.workers import lake

if TYPE_CHECKING:
    from pathlib import Path

    from holdtrue_contracts.actor import Actor
    from holdtrue_contracts.deployer.v1.deployments_pb2 import Revision
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished
    from holdtrue_events.outbox import Outbox
    from holdtrue_storage.blobs import Blobs

    from holdtrue_trainer.domain.run import Run


class InputsMissingError(Exception):
    """Something that the run needs is not there; trying again may help."""


@dataclass(frozen=True, slots=True)
class _Sources:
    dataset: DatasetVersionPublished
    champion: Revision | None
    champion_seen_ns: int


class Inputs:
    """Reads the lake and the blobs for runs."""

    def __init__(self, outbox: Outbox, blobs: Blobs, root: Path) -> None:
        """Keep where to read: projections, blobs, tables."""
        self._outbox = outbox
        self._blobs = blobs
        self._root = root

    async def lay_out(self, run: Run, actor: Actor, folder: Path) -> None:
        """Write the input files. Raises InputsMissingError, or HoldtrueError for blobs that are missing or corrupt."""
        sources = await self._sources(run, actor)
        await asyncio.to_thread(lake.write_rows, self._root, sources.dataset, folder / exchange.DATA)
        if sources.champion is not None:
            await asyncio.to_thread(self._write_champion, sources.champion, folder)
        if artifact := parse(run.spec.recipe).artifact:
            await asyncio.to_thread(self._copy, artifact, folder / exchange.GIVEN_MODEL)
        (folder / exchange.JOB).write_bytes(exchange.encode(_job(run, sources)))

    async def _sources(self, run: Run, actor: Actor) -> _Sources:
        spec = run.spec
        async with self._outbox.transaction(actor) as tx:
            dataset = await DatasetStore(tx).find(spec.dataset_id, spec.dataset_version)
            champion = await DeploymentStore(tx).champion(spec.model_id, spec.model_name)
            made_by = await RunStore(tx).of_manifest(champion.manifest_digest) if champion else None
        if dataset is None:
            raise InputsMissingError(
                f"version {spec.dataset_version} of dataset {spec.dataset_name!r} is not known here"
            )
        seen = made_by.result.train_to_ns if made_by and made_by.result else 0
        return _Sources(dataset, champion, seen)

    def _copy(self, digest: str, target: Path) -> None:
        with self._blobs.open_verified(digest) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)

    def _write_champion(self, champion: Revision, folder: Path) -> None:
        """Copy the champion's manifest and the file that is served."""
        (folder / exchange.CHAMPION_MANIFEST).write_bytes(self._blobs.get(champion.manifest_digest))
        (folder / exchange.CHAMPION_MODEL).write_bytes(self._blobs.get(champion.artifact_digest))


def _job(run: Run, sources: _Sources) -> Job:
    schema = sources.dataset.schema
    return Job(
        recipe=run.spec.recipe,
        seed=run.spec.seed,
        columns=tuple(
            ColumnNote(c.name, exchange.checked_dtype(c.dtype), c.unit, c.pii, c.segment)
            for c in schema.columns
            if c.name not in {schema.label, schema.time} and not (schema.subject and c.pii)  # they are encrypted
        ),
        label=schema.label,
        time=lake.EVENT_TIME,
        ordered=bool(schema.time),
        from_ns=run.spec.from_ns,
        last_rows=run.spec.last_rows,
        champion_version=sources.champion.model_version if sources.champion else 0,
        champion_seen_ns=sources.champion_seen_ns,
        dataset_digest=sources.dataset.digest,
    )
