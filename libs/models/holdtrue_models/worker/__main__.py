"""The worker: load the model, say how that went, then answer batches until nobody asks any more."""

from __future__ import annotations

import mmap
import os
import resource
import socket
import sys
import time
import warnings
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from holdtrue_models.errors import ModelError, UnsafeModel
from holdtrue_models.manifest import Manifest
from holdtrue_models.worker.memory import read_all
from holdtrue_models.worker.messages import TO_WORKER, Answer, Refused, Report, Start, receive, send

if TYPE_CHECKING:
    from holdtrue_models.parity import Model

FLOAT = 4
_KIB = 1 if sys.platform == "darwin" else 1024


def main(start: Start) -> None:
    """Serve on the socket that the starter has handed over."""
    channel = socket.socket(fileno=start.socket)
    with mmap.mmap(start.shared, 0) as memory:
        try:
            began = time.perf_counter()
            model = _load(start)
            loaded = time.perf_counter() - began
            report = Report(
                load_seconds=loaded,
                run_seconds=_warm_up(model, start.rows),
                memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB,
                isolated=os.environ.get("HOLDTRUE_CHILD_NETWORK") == "none",
            )
        except (ModelError, MemoryError) as error:
            send(channel, _refusal(error))
            return
        send(channel, report)
        _serve(channel, model, memory, start)


def _load(start: Start) -> Model:
    from holdtrue_models.models import load  # noqa: PLC0415 - a lack of memory here is a refusal, too

    return load(read_all(start.model), Manifest.from_bytes(read_all(start.manifest)))


def _warm_up(model: Model, rows: int) -> dict[int, float]:
    """Run the check rows in batches of several sizes up to the largest; only the second run of each counts."""
    example = model.manifest.check_rows.inputs.array()
    measured: dict[int, float] = {}
    for count in sorted({1, min(8, rows), min(64, rows), rows}):
        batch = np.resize(example, (count, example.shape[1]))
        model.run(batch)
        began = time.perf_counter()
        model.run(batch)
        measured[count] = time.perf_counter() - began
    return measured


def _serve(channel: socket.socket, model: Model, memory: mmap.mmap, start: Start) -> None:
    while True:
        try:
            batch = receive(channel, TO_WORKER)
        except EOFError:
            return
        try:
            send(channel, _answer(model, memory, batch.rows, start))
        except (ModelError, MemoryError) as error:
            send(channel, _refusal(error))


def _answer(model: Model, memory: mmap.mmap, rows: int, start: Start) -> Answer:
    x = np.frombuffer(memory, np.float32, rows * start.width).reshape(rows, start.width)
    answer = np.ascontiguousarray(model.run(x), np.float32)
    offset = start.rows * start.width * FLOAT
    if answer.ndim != 2 or answer.nbytes > len(memory) - offset:  # noqa: PLR2004 - rows, columns
        raise UnsafeModel(f"the model answers with a tensor of shape {list(answer.shape)}, for which there is no room")
    memory[offset : offset + answer.nbytes] = answer.tobytes()
    return Answer(answer.shape[0], answer.shape[1])


def _refusal(error: ModelError | MemoryError) -> Refused:
    if isinstance(error, MemoryError):
        return Refused("UnsafeModel", "the model needs more memory than its process may have")
    return Refused(type(error).__name__, str(error)[:10_000])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(msgspec.json.decode(sys.argv[1], type=Start))
