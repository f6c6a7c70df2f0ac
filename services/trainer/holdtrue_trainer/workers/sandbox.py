"""Run a program of ours in a process that can harm nothing but its own folder, and say how it ended."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from holdtrue_trainer.child.exchange import LOG
from holdtrue_trainer.domain.run import Failure, Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from holdtrue_models.worker.limits import Limits

LOG_BYTES = 64 << 10
"""How much of the end of the log is kept."""
WATCH_SECONDS = 0.5
TERM_SECONDS = 5.0
HEIRS_SECONDS = 1.0
"""How long the output of a program is still read after its session has ended."""
_LAUNCH = ("-I", "-m", "holdtrue_models.worker.launch")
_SESSION, _RSS = 3, 21  # fields of /proc/<pid>/stat after the name
_FILE_TOO_LARGE = f"[Errno {errno.EFBIG}]".encode()
_OUT_OF_MEMORY = (b"MemoryError", b"bad_alloc", b"Cannot allocate memory")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ended: `trouble` is None if it exited with 0; `log` is the end of what it wrote to stderr."""

    trouble: Trouble | None
    log: bytes


async def run_limited(
    program: Sequence[str], folder: Path, limits: Limits, on_line: Callable[[str], Awaitable[None]]
) -> Ending:
    """Run a Python program (arguments of the interpreter) in `folder` until it ends or breaks a limit.

    It gets a session of its own and an environment without secrets. `on_line` is called with each line that it prints.
    When this call is cancelled, and in any case before it returns, all processes of the session are ended.
    """
    with (folder / LOG).open("x+b") as log:
        async with _lines(on_line) as output:
            process = await _launch(program, folder, limits, output, log)
            try:
                breach = await _watch(process, limits)
            finally:
                await _end(process)
        said = _tail(log)
    return Ending(breach or _trouble(process.returncode or 0, limits, said), said)


async def _launch(
    program: Sequence[str], folder: Path, limits: Limits, output: int, log: BinaryIO
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *_LAUNCH,
        *(msgspec.json.encode(limits).decode(), str(os.getpid()), sys.executable, *program),
        cwd=folder,
        env=_environment(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=log,
        start_new_session=True,
    )


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve more addresses than the limit allows
        "ORT_DISABLE_TELEMETRY": "1",
    }


async def _watch(process: asyncio.subprocess.Process, limits: Limits) -> Trouble | None:
    """Wait for the end of the program, or for the first limit that it breaks."""
    ended = asyncio.create_task(process.wait())
    guard = asyncio.create_task(_guard(process.pid, limits))
    try:
        await asyncio.wait({ended, guard}, timeout=limits.wall_seconds, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return None
        text = f"not finished after {limits.wall_seconds:g} s; use fewer rows or a smaller model"
        return await guard if guard.done() else Trouble(Failure.TIMEOUT, text)
    finally:
        guard.cancel()
        ended.cancel()
        await asyncio.wait([ended, guard])


async def _guard(session: int, limits: Limits) -> Trouble:
    """Return when the processes of the session break a limit together."""
    while True:
        count, memory = await asyncio.to_thread(usage, session)
        if count > limits.processes:
            return Trouble(Failure.USER_ERROR, f"it started {count} processes; at most {limits.processes} are allowed")
        if memory > limits.memory_bytes:
            return Trouble(Failure.OUT_OF_MEMORY, f"its processes hold {memory} bytes of {limits.memory_bytes}")
        await asyncio.sleep(WATCH_SECONDS)


@asynccontextmanager
async def _lines(on_line: Callable[[str], Awaitable[None]]) -> AsyncGenerator[int]:
    """Lend a file descriptor; what is written to it is passed on line by line.

    A pipe of our own: asyncio's would let the end of a program wait for all heirs of the pipe.
    """
    reading, writing = os.pipe()
    stream = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(stream)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(reading, "rb", 0))
    reader = asyncio.create_task(_pass_on(stream, on_line))
    try:
        yield writing
    finally:
        os.close(writing)
        await asyncio.wait([reader], timeout=HEIRS_SECONDS)
        reader.cancel()
        transport.close()


async def _pass_on(stream: asyncio.StreamReader, on_line: Callable[[str], Awaitable[None]]) -> None:
    """Pass on lines; what has no end of line is cut into pieces, so that endless output costs no memory."""
    while chunk := await stream.read(LOG_BYTES):
        for line in chunk.decode(errors="replace").splitlines():
            await on_line(line)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the whole session: ask, wait, kill. Children of a program that has ended are killed at once."""
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), TERM_SECONDS)
        except TimeoutError:
            pass
        finally:
            _signal(process.pid, signal.SIGKILL)
            await process.wait()
    _signal(process.pid, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def usage(session: int) -> tuple[int, int]:
    """Return how many processes a session has and how many bytes of memory are resident in them; 0 where unknown."""
    rows = [fields for fields in map(_stat, Path("/proc").glob("[0-9]*/stat")) if fields]
    mine = [fields for fields in rows if int(fields[_SESSION]) == session]
    return len(mine), sum(int(fields[_RSS]) for fields in mine) * os.sysconf("SC_PAGE_SIZE")


def _stat(path: Path) -> list[bytes]:
    """Return the fields after the name, which may hold anything; none if the process has just ended."""
    try:
        return path.read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []


def _trouble(status: int, limits: Limits, log: bytes) -> Trouble | None:
    """Say what an exit status means."""
    if status == 0:
        return None
    if status == -signal.SIGXCPU:
        return Trouble(Failure.TIMEOUT, f"it used {limits.wall_seconds:g} s of processor time, all that is allowed")
    if status == -signal.SIGKILL or any(mark in log for mark in _OUT_OF_MEMORY):
        text = f"it needs more memory than the {limits.memory_bytes} bytes allowed; use fewer rows or a smaller model"
        return Trouble(Failure.OUT_OF_MEMORY, text)
    if status == -signal.SIGXFSZ or _FILE_TOO_LARGE in log:
        return Trouble(Failure.USER_ERROR, f"it wrote a file of more than the {limits.file_bytes} bytes allowed")
    last = (log.decode(errors="replace").strip().splitlines() or ["it wrote nothing"])[-1]
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    return Trouble(Failure.INFRASTRUCTURE, f"the training process ended with {how}: {last[:500]}")


def _tail(log: BinaryIO) -> bytes:
    """Return the end of the log, from the file that was opened: the program may have put another in its place."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_BYTES))
    return log.read(LOG_BYTES)
