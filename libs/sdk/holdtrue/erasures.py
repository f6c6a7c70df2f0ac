"""Erasing persons from all datasets, and the proof of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.erasure_pb2 import (
    ERASURE_STATE_DONE,
    EraseSubjectRequest,
    Erasure,
    GetErasureRequest,
    ListErasuresRequest,
)

from holdtrue.paging import pages
from holdtrue.waiting import Progress, silent, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub

    from holdtrue.connection import Connection

ERASE_SECONDS = 3600.0
_COUNT_SECONDS = 240.0


class DatasetErasures:
    """Erasing persons: part of `Client.datasets`."""

    _connection: Connection
    _stub: DatasetServiceStub

    def erase_subject(self, identifier: str, *, reason: str, dry_run: bool = False, now: bool = False) -> Erasure:
        """Have a person erased from all datasets, by the value of their subject columns; `dry_run` only counts.

        All who wait are erased together, within an hour by default; `now` begins at once. Asking again while it is not
        done gives the same erasure. Raises InvalidArgument.
        """
        request = EraseSubjectRequest(identifier=identifier, reason=reason, dry_run=dry_run, now=now)
        return self._connection.call(self._stub.EraseSubject, request, _COUNT_SECONDS).erasure

    def erasure(self, erasure_id: str) -> Erasure:
        """Return an erasure, with its proof as far as there is one, by its id or a beginning of it; raises NotFound."""
        request = GetErasureRequest(erasure_id=erasure_id)
        return self._connection.call(self._stub.GetErasure, request).erasure

    def erasures(self, *, unfinished: bool = False) -> Iterator[Erasure]:
        """Yield all erasures, or those that are not done, newest first; without what single datasets held."""
        return pages(
            lambda token: self._connection.call(
                self._stub.ListErasures, ListErasuresRequest(open=unfinished, page_token=token)
            ),
            lambda page: page.erasures,
        )

    def wait_erased(self, erasure_id: str, *, timeout: float = ERASE_SECONDS, progress: Progress = silent) -> Erasure:
        """Wait until an erasure is proven; raises NotFound, DeadlineExceeded. `progress` hears where it is."""
        return until(lambda: self._proven(erasure_id, progress), timeout, f"erasure {erasure_id}")

    def _proven(self, erasure_id: str, progress: Progress) -> Erasure | None:
        found = self.erasure(erasure_id)
        progress(where(found))
        return found if found.state == ERASURE_STATE_DONE else None


def where(erasure: Erasure) -> str:
    """Say in words how far an erasure is, and what holds it up."""
    done = f"{erasure.datasets_done} of {erasure.datasets_total} datasets are done"
    held = [f"{each.name}: {each.trouble}" for each in erasure.datasets if each.trouble]
    traces = [f"{each.name} still holds something in {each.found[0].file}" for each in erasure.datasets if each.found]
    return "; ".join([done if erasure.datasets_total else "waiting for the next round", *held, *traces])
