"""Start a worker, hand it batches, and see to it that it ends."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import IO, TYPE_CHECKING, Self, TypeVar, cast

import msgspec
import numpy as np

from holdtrue_models import errors
from holdtrue_models.coding import check_rows
from holdtrue_models.errors import ModelError, UnsafeModel, WorkerAway
from holdtrue_models.worker.limits import Limits
from holdtrue_models.worker.memory import frozen, shared
from holdtrue_models.worker.messages import FROM_WORKER, Answer, Batch, Refused, Report, Start, receive, send

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Float32s

    from holdtrue_models.manifest import Manifest

LIMITS = Limits(memory_bytes=2 << 30, wall_seconds=0, file_bytes=0, open_files=64)
START_SECONDS = 60.0
RUN_SECONDS = 30.0
MAX_ROWS = 1024
_FLOAT = 4
_SAID = 500
_END_SECONDS = 5.0
_T = TypeVar("_T", Report, Answer)
_LAUNCH = ("-I", "-B", "-m", "holdtrue_models.worker.launch")
_PROGRAM = ("-I", "-B", "-m", "holdtrue_models.worker")


class Worker:
    """A process that has loaded one model. Safe to share between threads, which then wait for each other.

    It ends with `close`, or when nobody holds this any more.
    """

    def __init__(
        self, data: bytes, manifest: Manifest, *, limits: Limits = LIMITS, seconds: float = START_SECONDS
    ) -> None:
        """Start it and wait until the model has been loaded, has reproduced its check rows and has run.

        Raises what `load` raises, and UnsafeModel if the process dies or takes longer than `seconds`.
        """
        self._lock = threading.Lock()
        self._width = len(manifest.signature.columns)
        self._columns = max(1, len(manifest.signature.classes))
        size = MAX_ROWS * (self._width + self._columns) * _FLOAT
        room = shared(size)
        files = [frozen(data), frozen(manifest.to_bytes()), room]
        try:
            self._memory = mmap.mmap(room, size)
            self._channel, theirs = socket.socketpair()
            with theirs:
                self._process = _starter().submit(self._start, theirs, files, limits).result()
        finally:
            for descriptor in files:
                os.close(descriptor)
        self._finalizer = weakref.finalize(self, _end, self._process, self._channel)
        self.report = self._wait_until_ready(seconds)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def run(self, x: Float32s, seconds: float = RUN_SECONDS) -> Float32s:
        """Return the answer to the rows x float32 [n, d].

        Raises ModelError if the model refuses them, WorkerAway if the process dies over them or needs more than
        `seconds` for a batch; it is then gone.
        """
        check_rows(x, self._width)
        with self._lock:
            parts = [self._run(x[begin : begin + MAX_ROWS], seconds) for begin in range(0, len(x), MAX_ROWS)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """End the process at once and wait for its end."""
        self._finalizer()

    def __enter__(self) -> Self:
        """Lend the worker."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def _start(self, theirs: socket.socket, files: list[int], limits: Limits) -> subprocess.Popen[bytes]:
        descriptors = (theirs.fileno(), *files)
        model, manifest, room = files
        start = Start(
            socket=theirs.fileno(), model=model, manifest=manifest, shared=room, width=self._width, rows=MAX_ROWS
        )
        words = (msgspec.json.encode(limits).decode(), str(os.getpid()), sys.executable)
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, *_LAUNCH, *words, *_PROGRAM, msgspec.json.encode(start).decode()],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
            start_new_session=True,
        )

    def _wait_until_ready(self, seconds: float) -> Report:
        try:
            return self._receive(Report, seconds)
        except WorkerAway as error:
            raise UnsafeModel(f"the model was tried in a process of its own and is refused: {error}") from error
        except ModelError:
            self.close()
            raise

    def _run(self, x: Float32s, seconds: float) -> Float32s:
        data = np.ascontiguousarray(x).tobytes()
        self._memory[: len(data)] = data
        try:
            send(self._channel, Batch(len(x)))
        except OSError as error:
            raise self._ended() from error
        answer = self._receive(Answer, seconds)
        if answer.rows != len(x) or not 0 < answer.columns <= self._columns:
            raise self._killed(f"it answered {len(x)} rows with a tensor of shape {[answer.rows, answer.columns]}")
        offset = MAX_ROWS * self._width * _FLOAT
        room = self._memory[offset : offset + answer.rows * answer.columns * _FLOAT]
        return np.frombuffer(room, np.float32).reshape(answer.rows, answer.columns)

    def _receive(self, kind: type[_T], seconds: float) -> _T:
        try:
            message = receive(self._channel, FROM_WORKER, seconds)
        except TimeoutError as error:
            raise self._killed(f"it did not answer within {seconds:g} s") from error
        except (EOFError, OSError) as error:
            raise self._ended() from error
        except ValueError as error:  # what msgspec raises is one
            raise self._killed(f"it did not speak as agreed: {error}") from error
        if isinstance(message, Refused):
            raise _error(message)
        if not isinstance(message, kind):
            raise self._killed("it did not speak as agreed")
        return message

    def _killed(self, why: str) -> WorkerAway:
        self.close()
        return WorkerAway(f"the process of the model was ended: {why}")

    def _ended(self) -> WorkerAway:
        """Say how it ended by itself."""
        try:
            status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return self._killed("it did not speak any more")
        said = self._last_words()
        self.close()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        return WorkerAway(f"the process of the model ended with {how}{said}")

    def _last_words(self) -> str:
        """What it wrote last; whoever it may have started can keep the pipe open, so nothing is waited for."""
        pipe = cast("IO[bytes]", self._process.stderr)
        if pipe.closed:
            return ""
        os.set_blocking(pipe.fileno(), False)
        said = pipe.read() or b""
        last = (said.decode(errors="replace").strip().splitlines() or [""])[-1]
        return f": {last[:_SAID]}" if last else ""


def try_out(data: bytes, manifest: Manifest, *, limits: Limits = LIMITS, seconds: float = START_SECONDS) -> Report:
    """Load a model in a limited process and see that it reproduces its check rows there; what it costs is returned.

    Raises what `load` raises, and UnsafeModel if the process dies, breaks a limit or takes longer than `seconds`.
    """
    with Worker(data, manifest, limits=limits, seconds=seconds) as worker:
        return worker.report


def _end(process: subprocess.Popen[bytes], channel: socket.socket) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_END_SECONDS)
    channel.close()
    cast("IO[bytes]", process.stderr).close()


def _error(message: Refused) -> ModelError:
    cls = getattr(errors, message.error, ModelError)
    known = isinstance(cls, type) and issubclass(cls, ModelError) and cls is not WorkerAway
    return cls(message.text) if known else ModelError(message.text)


@cache
def _starter() -> ThreadPoolExecutor:
    """The thread that starts all workers: the kernel ends them when the thread that started them ends."""
    return ThreadPoolExecutor(1, thread_name_prefix="model-workers")


_ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "HOME": "/nonexistent",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
