"""The figures of a span, from the stored counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.monitor.v1.monitor_service_pb2 import RevisionHealth

from holdtrue_monitor.domain import measures
from holdtrue_monitor.domain.buckets import Labelled, Scores
from holdtrue_monitor.store.catalog import CatalogStore
from holdtrue_monitor.store.windows import WindowStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdtrue_storage.database import Transaction

    from holdtrue_monitor.domain.measures import Performance
    from holdtrue_monitor.references import References

    Span = tuple[int, int]


async def evaluate(
    tx: Transaction,
    references: References,
    deployments: Mapping[str, str],
    span: tuple[int, int],
    *,
    whole: bool = False,
) -> list[RevisionHealth]:
    """Return the health of each revision with predictions in the span, and (`whole`) of all as one, at the end."""
    store = WindowStore(tx)
    rows = {row["revision"]: row for row in await CatalogStore(tx).revisions(list(deployments))}
    scores = await store.scores(list(rows), *span)
    labelled = await store.labelled(list(rows), *span)
    parts: list[Performance] = []
    found: list[RevisionHealth] = []
    for revision, counts in sorted(scores.items(), key=lambda item: rows[item[0]]["model_version"]):
        row = rows[revision]
        origin = await references.find(tx, row["deployment_id"], revision, row["model_version"])
        if origin is None:
            continue
        labels = labelled.get(revision, Labelled.empty())
        part = measures.performance(origin.reference, counts, labels, contradicted=row["contradicted"])
        parts.append(part)
        entry = _entry(part, span)
        entry.deployment_id, entry.deployment_name = row["deployment_id"], deployments[row["deployment_id"]]
        entry.revision, entry.model_version = revision, row["model_version"]
        found.append(entry)
    if whole:
        total = measures.together(parts, sum(scores.values(), Scores.empty()), sum(labelled.values(), Labelled.empty()))
        entry = _entry(total, span)
        entry.deployment_id, entry.deployment_name = next(iter(deployments.items()))
        found.append(entry)
    return found


def _entry(part: Performance, span: Span) -> RevisionHealth:
    return RevisionHealth(
        from_ns=span[0],
        to_ns=span[1],
        rows=part.rows,
        labelled=part.labelled,
        label_completeness=part.completeness,
        measures=part.measures,
    )
