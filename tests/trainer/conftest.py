"""Folders for a child: rows, recipe, champion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from holdtrue_trainer.child import exchange
from holdtrue_trainer.child.exchange import ColumnNote, Job
from holdtrue_trainer.domain.recipe import resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECOND = 1_000_000_000


@dataclass
class Rows:
    """A little stream: y depends on amount and foreign; event i happens at second i."""

    n: int = 1_500
    seed: int = 5
    flipped: bool = False
    columns: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        x = random.normal(size=(self.n, 3)).astype(np.float32)
        logit = 4 * x[:, 0] + 2 * x[:, 1] - 1
        y = random.random(self.n) < 1 / (1 + np.exp(logit if self.flipped else -logit))
        self.columns = {"amount": x[:, 0], "foreign": x[:, 1], "hour": x[:, 2], "y": y.astype(np.int64)} | self.columns

    def table(self) -> pa.Table:
        times = (np.arange(self.n) * 1_000_000).astype("datetime64[us]")
        return pa.table({**self.columns, "_event_time": pa.array(times, pa.timestamp("us", "UTC"))})


def job(**changes: Any) -> Job:
    """A job on Rows."""
    columns = tuple(ColumnNote(name, "float32") for name in ("amount", "foreign", "hour"))
    usual: dict[str, Any] = {
        "recipe": resolve("logistic"),
        "seed": 3,
        "columns": columns,
        "label": "y",
        "time": "_event_time",
        "ordered": True,
        "from_ns": 0,
        "last_rows": 0,
    }
    return Job(**usual | changes)


@pytest.fixture
def lay_out(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a child's inputs into a new folder."""

    def write(rows: Rows, task: Job, champion: Path | None = None, given: bytes = b"") -> Path:
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        table = rows.table()
        with pa.OSFile(str(folder / exchange.DATA), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        (folder / exchange.JOB).write_bytes(exchange.encode(task))
        if given:
            (folder / exchange.GIVEN_MODEL).write_bytes(given)
        if champion is not None:
            (folder / exchange.CHAMPION_MODEL).write_bytes((champion / exchange.MODELS["onnx"]).read_bytes())
            (folder / exchange.CHAMPION_MANIFEST).write_bytes((champion / exchange.MANIFEST).read_bytes())
        return folder

    return write
