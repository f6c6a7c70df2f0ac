"""Corrections: a later row about the same thing takes the place of an earlier one, and both stay on record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_RANK = "_rank"


def as_known_at(rows: pa.Table, entity: Sequence[str], time: datetime | None = None) -> pa.Table:
    """Rows as they were known at a time (None: now): those ingested until then, of each entity the newest only.

    `rows` are in canonical order and have `_ingest_time`; the result is in their order. Of several rows of an entity
    with the same `_ingest_time` the last in canonical order is the newest. A row without an entity (null in one of its
    columns) neither corrects another nor is corrected. Raises ValueError where `entity` names no column, one that is
    missing, or one of floats, which are no identifiers.
    """
    _check(rows.schema, entity)
    if time is not None:
        rows = rows.filter(pc.less_equal(rows.column("_ingest_time"), pa.scalar(time, pa.timestamp("us", "UTC"))))
    anonymous = np.zeros(rows.num_rows, np.bool_)
    for name in entity:
        anonymous |= rows.column(name).is_null().to_numpy()
    # Stable, so that rows of the same time stay in canonical order: the rank says which of two rows is newer.
    by_age = np.argsort(rows.column("_ingest_time").cast(pa.int64()).to_numpy(), kind="stable")
    rank = np.empty(rows.num_rows, np.int64)
    rank[by_age] = np.arange(rows.num_rows)
    ranked = rows.select(list(entity)).append_column(_RANK, pa.array(rank)).filter(pa.array(~anonymous))
    newest = ranked.group_by(list(entity)).aggregate([(_RANK, "max")]).column(f"{_RANK}_max").to_numpy()
    kept = anonymous
    kept[by_age[newest]] = True
    return rows.filter(pa.array(kept))


def _check(schema: pa.Schema, entity: Sequence[str]) -> None:
    if not entity:
        raise ValueError("name the columns that say what a row is about")
    for name in entity:
        if name not in schema.names:
            raise ValueError(f"there is no column {name!r} to tell entities apart; there are {schema.names[:20]}")
        if pa.types.is_floating(schema.field(name).type):
            raise ValueError(f"column {name!r} has floats, which tell no entities apart; name one of another type")
