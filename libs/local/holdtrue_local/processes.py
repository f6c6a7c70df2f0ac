"""Child processes that never outlive us, and the little that is needed around them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from .errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TETHER = Path(__file__).with_name("tether.py")
_POLL_SECONDS = 0.03


class Program(ABC):
    """A program that runs as our child. `start`, `stop` and `kill` may follow each other in any order.

    Start it from the main thread: the kernel sends the parent-death signal when the starting *thread* ends.

    Attributes:
        name: How people call it.
        log: The file that its output is appended to.
        say: Hears what `prepare` does when that takes long; called from a thread.
    """

    stop_signal = signal.SIGTERM
    start_seconds = 60.0
    stop_seconds = 20.0

    def __init__(self, name: str, log: Path) -> None:
        """Start nothing yet."""
        self.name = name
        self.log = log
        self.say: Callable[[str], None] = _say_nothing
        self._process: subprocess.Popen[bytes] | None = None
        self._step: subprocess.Popen[str] | None = None
        self._stepping = threading.Lock()
        self._given_up = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def prepare(self) -> None:  # noqa: B027  a program may need nothing
        """Do what may take long and has to be there before the start. Runs in a thread."""

    def run_step(
        self, argv: Sequence[str], doing: str, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Run what `prepare` needs to its end. A `stop` or `kill` ends it, or keeps it from being started.

        Raises:
            StartError: it failed; with what it printed. `doing` completes "could not …".
        """
        with self._stepping:
            if self._given_up:
                raise StartError(f"{self.name} was stopped before it could {doing}")
            step = self._step = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        said, _ = step.communicate()
        if step.returncode != 0:
            raise StartError(f"{self.name} could not {doing}: {said.strip()}")

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments; should end with its starter (`tethered`)."""

    def environment(self) -> Mapping[str, str] | None:
        """The program's environment, by default ours."""
        return None

    @abstractmethod
    async def ready(self) -> bool:
        """Whether the running program serves."""

    async def start(self) -> None:
        """Start, and return when it is ready.

        Raises:
            StartError: with the last lines of the log.
        """
        self._given_up = False
        await _aside(self.prepare)
        began = self.log.stat().st_size if self.log.exists() else 0
        self._process = spawn(self.command(), log=self.log, env=self.environment())
        try:
            await self._until_ready(self._process)
        except StartError as error:
            await self.kill()
            raise StartError(f"{error}; {self.log} ends with:\n{tail(self.log, began)}") from None

    async def _until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.start_seconds
        while not await self.ready():
            if process.poll() is not None:
                raise StartError(f"{self.name} ended with status {process.returncode} before it was ready")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready within {self.start_seconds:g} s")
            await asyncio.sleep(_POLL_SECONDS)

    async def wait(self) -> int:
        """Wait until the started program ends; its exit status, negative for a signal."""
        assert self._process is not None, "started before"  # noqa: S101
        await _ended(self._process, seconds=None)
        return self._process.returncode

    async def stop(self) -> None:
        """Ask it to end, and end it and whatever it started by force when it has not after `stop_seconds`."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            await _ended(self._process, self.stop_seconds)
        await self.kill()

    async def kill(self) -> None:
        """Kill -9 it and everything it started, as a crash would, and return when all of it is gone."""
        with self._stepping:
            self._given_up = True
        if self._step and self._step.poll() is None:
            await _kill_session(self._step.pid)
        if self._process:
            await _kill_session(self._process.pid)
            self._process.wait()


async def _kill_session(leader: int) -> None:
    family = _session(leader)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
    while any(map(is_alive, family)):  # noqa: ASYNC110  other people's children have no event to wait for
        await asyncio.sleep(_POLL_SECONDS)


async def _aside(work: Callable[[], None]) -> None:
    """Do `work` in a thread that nobody waits for at exit: a download must not hold up a Ctrl-C."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: Exception | None) -> None:
        if not done.cancelled():
            done.set_exception(error) if error else done.set_result(None)

    def run() -> None:
        error: Exception | None = None
        try:
            work()
        except Exception as caught:  # noqa: BLE001  it is raised where `work` is awaited
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits any more
            loop.call_soon_threadsafe(finish, error)

    threading.Thread(target=run, daemon=True).start()
    await done


def _say_nothing(_text: str) -> None:
    """Nobody listens."""


def tethered(argv: Sequence[str], death_signal: signal.Signals = signal.SIGKILL) -> list[str]:
    """Extend `argv` so that the program gets `death_signal` when this process ends, however it ends."""
    return [sys.executable, "-I", "-S", str(_TETHER), str(int(death_signal)), str(os.getpid()), *argv]


def spawn(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own, its output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
        )


async def _ended(process: subprocess.Popen[bytes], seconds: float | None) -> bool:
    """Wait for the end of `process`; False when it still lives after `seconds`."""
    if process.poll() is not None:
        return True
    descriptor = os.pidfd_open(process.pid)
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), seconds)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    process.wait()
    return True


async def run_to_end(argv: Sequence[str], orders: bytes, *, log: Path) -> None:
    """Run a step that ends by itself, with `orders` as its standard input; given up, it is killed.

    Raises:
        StartError: it failed; with the last lines of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        step = await asyncio.create_subprocess_exec(
            *tethered(argv), stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        )
    try:
        await step.communicate(orders)
    finally:
        if step.returncode is None:
            step.kill()
            await step.wait()
    if step.returncode != 0:
        raise StartError(f"{log.stem} failed with status {step.returncode}; {log} ends with:\n{tail(log)}")


def memory_mb(leader: int) -> float:
    """Memory of a program and all it started, shared pages divided among those who share them (PSS)."""
    return sum(map(_pss_kb, _session(leader))) / 1024


def _pss_kb(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return int(rollup.partition("\nPss:")[2].split()[0])


def is_alive(pid: int) -> bool:
    """Whether `pid` is a process that still runs; a dead one that nobody has collected does not count."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _session(leader: int) -> list[int]:
    """Everybody in the session of `leader`: what `spawn` started and all that it started in turn."""
    return [pid for pid in psutil.pids() if _session_of(pid) == leader]


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def tail(log: Path, began: int = 0, lines: int = 12) -> str:
    """The last lines of a log file, none of them from before the position `began`, for an error message."""
    with log.open("rb") as file:
        file.seek(began)
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
