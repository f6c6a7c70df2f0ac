"""Appends numbered messages to a dataset's table and kills itself around an append at random.

Every append is judged by other rules, which refuse another row.

Usage: killed_writer.py ROOT DATASET_ID MESSAGES SEED
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_JSON_LINES, DatasetSchema
from holdtrue_lake import log as module
from holdtrue_lake.table import DatasetTable, Offer, Source
from holdtrue_lake.validation import Validated, validate

if TYPE_CHECKING:
    from holdtrue_lake.quarantine import Standard

DEADLINESS = 0.15
SOURCE = Source("cluster", "topic", 3)
SCHEMA = DatasetSchema(
    columns=[
        ColumnSpec(name="amount", dtype="float32"),
        ColumnSpec(name="country", dtype="string", categories=["DE", "FR"]),
        ColumnSpec(name="known", dtype="bool"),
        ColumnSpec(name="fraud", dtype="int64"),
    ],
    label="fraud",
    time="at",
)


def die_around_appends(chance: random.Random) -> None:
    append = module.append

    def deadly(*arguments: Any) -> None:
        if chance.random() < DEADLINESS:
            os.kill(os.getpid(), signal.SIGKILL)
        append(*arguments)
        if chance.random() < DEADLINESS:
            os.kill(os.getpid(), signal.SIGKILL)

    module.append = deadly


def offer(offset: int) -> Offer:
    good = {"amount": offset, "country": "DE", "known": True, "fraud": 0, "at": 1_700_000_000 + offset}

    def judged(standard: Standard) -> Validated:
        rows = [good | {"fraud": "x"} if str(row) == standard.rules else good for row in range(3)]
        return validate(SCHEMA, "\n".join(map(json.dumps, rows)).encode(), RECORD_FORMAT_JSON_LINES, standard.now)

    return Offer(offset, f"batch-{offset}", judged)


def main(root: Path, dataset_id: str, messages: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  no secret
    die_around_appends(chance)
    table = DatasetTable(root, dataset_id, SCHEMA)
    position = table.position(SOURCE)
    next_offset = 0 if position is None else position + 1
    while next_offset < messages:
        batch = [offer(o) for o in range(next_offset, min(next_offset + chance.randint(1, 4), messages))]
        table.ingest(SOURCE, batch, datetime.now(UTC), rules=str(chance.randrange(4)))
        next_offset = (table.position(SOURCE) or 0) + 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
