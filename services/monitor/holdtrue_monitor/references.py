"""References of revisions: found in the catalogue, read once from the blob store, then kept here."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from holdtrue_core.errors import HoldtrueError

from holdtrue_monitor.domain.reference import MalformedProfile, Reference, parse, unknown
from holdtrue_monitor.store.catalog import CatalogStore

if TYPE_CHECKING:
    from holdtrue_storage.blobs import Blobs
    from holdtrue_storage.database import Transaction

_KEPT = 256
_log = structlog.stdlib.get_logger("holdtrue.monitor")


@dataclass(frozen=True, slots=True)
class Found:
    """A revision's reference, the digest of its profile, and whether that was decided for good."""

    reference: Reference
    digest: str
    fixed: bool


class References:
    """Finds what a revision is held against. What was decided for a revision stays: its counts are binned by it."""

    def __init__(self, blobs: Blobs) -> None:
        """Read profiles from these blobs."""
        self._blobs = blobs
        self._parsed: OrderedDict[str, Reference] = OrderedDict({"": unknown()})

    async def find(self, tx: Transaction, deployment_id: str, revision: str, model_version: int) -> Found | None:
        """Return the reference of a revision; None while its deployment or model version is unknown.

        A version whose profile cannot be read is counted without: its predictions must not wait for a lost blob.
        """
        origin = await CatalogStore(tx).origin(deployment_id, revision, model_version)
        if origin is None:
            return None
        reference = await self._reference(tx, origin.digest, known=origin.fixed)
        if reference is None:
            return Found(unknown().with_floor(origin.min_precision), "", origin.fixed)
        return Found(reference.with_floor(origin.min_precision), origin.digest, origin.fixed)

    async def _reference(self, tx: Transaction, digest: str, *, known: bool) -> Reference | None:
        """The first time it also goes into the database, with the transaction that decides for it."""
        if digest and not (known and digest in self._parsed):
            store = CatalogStore(tx)
            try:
                data = await store.profile(digest) or await self._blob(digest)
                parsed = parse(data)
            except MalformedProfile as error:
                _log.error("a version is counted without its reference profile", digest=digest, why=str(error))
                return None
            await store.keep_profile(digest, data)
            self._parsed[digest] = parsed
            if len(self._parsed) > _KEPT:
                self._parsed.popitem(last=False)
        return self._parsed[digest]

    async def _blob(self, digest: str) -> bytes:
        try:
            return await asyncio.to_thread(self._blobs.get, digest)
        except HoldtrueError as error:
            raise MalformedProfile(error.message) from error
