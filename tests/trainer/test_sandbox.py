"""Programs that misbehave are stopped, for the right reason, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from holdtrue_models.worker.limits import Limits
from holdtrue_trainer.domain.run import Failure
from holdtrue_trainer.workers.sandbox import Ending, run_limited, usage

if TYPE_CHECKING:
    from pathlib import Path

QUICK = Limits(wall_seconds=20, memory_bytes=512 << 20, processes=8, file_bytes=1 << 20)


async def run(folder: Path, code: str, limits: Limits = QUICK, lines: list[str] | None = None) -> Ending:
    async def on_line(line: str) -> None:
        if lines is not None:
            lines.append(line)

    return await run_limited(["-I", "-c", code], folder, limits, on_line)


def trouble(ending: Ending) -> tuple[Failure, str]:
    assert ending.trouble is not None
    return ending.trouble.failure, ending.trouble.message


def survivors(folder: Path) -> list[psutil.Process]:
    """Processes that still work in the folder."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


async def test_good_program_ends_well_and_its_lines_arrive(tmp_path: Path) -> None:
    lines: list[str] = []
    ending = await run(tmp_path, "import sys; print('loading'); print('training'); sys.stderr.write('hm')", lines=lines)
    assert (ending.trouble, ending.log, lines) == (None, b"hm", ["loading", "training"])


async def test_environment_holds_no_secret_and_folder_is_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDTRUE_TRAINER_POSTGRES_DSN", "secret")
    lines: list[str] = []
    await run(tmp_path, "import os; print(sorted(os.environ)); print(os.getcwd(), os.environ['HOME'])", lines=lines)
    assert "POSTGRES" not in lines[0]
    assert lines[1].split() == [str(tmp_path), str(tmp_path)]


async def test_limits_and_network_are_set_before_the_program_begins(tmp_path: Path) -> None:
    lines: list[str] = []
    code = """
import os, resource as r, socket
print(r.getrlimit(r.RLIMIT_AS)[1], r.getrlimit(r.RLIMIT_NOFILE)[1], r.getrlimit(r.RLIMIT_CORE)[1])
print(os.getsid(0) == os.getpid(), os.environ["HOLDTRUE_CHILD_NETWORK"], [n for _, n in socket.if_nameindex()])
"""
    ending = await run(tmp_path, code, lines=lines)
    assert ending.trouble is None
    assert lines[0] == f"{512 << 20} 256 0"
    own_session, *network = lines[1].split(" ", 1)
    assert own_session == "True"
    assert "not isolated" in network[0] or network[0] == "none ['lo']"


async def test_endless_loop_is_stopped_by_the_clock(tmp_path: Path) -> None:
    ending = await run(tmp_path, "while True: pass", Limits(wall_seconds=1.5))
    assert trouble(ending)[0] is Failure.TIMEOUT
    assert survivors(tmp_path) == []


async def test_sleeper_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdtrue_trainer.workers.sandbox.TERM_SECONDS", 0.5)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    assert trouble(await run(tmp_path, code, Limits(wall_seconds=1.5)))[0] is Failure.TIMEOUT
    assert survivors(tmp_path) == []


async def test_processor_time_is_limited_too(tmp_path: Path) -> None:
    code = "import resource as r; r.setrlimit(r.RLIMIT_CPU, (1, 20))\nwhile True: pass"
    failure, message = trouble(await run(tmp_path, code))
    assert (failure, "processor time" in message) == (Failure.TIMEOUT, True)


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(1 << 40)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import os, sys; print('throwing std::bad_alloc', file=sys.stderr, flush=True); os.abort()",
    ],
    ids=["refused by the limit", "killed by the kernel", "a library that aborts"],
)
async def test_endless_allocation_is_out_of_memory(tmp_path: Path, code: str) -> None:
    assert trouble(await run(tmp_path, code))[0] is Failure.OUT_OF_MEMORY


async def test_memory_of_all_processes_counts_together(tmp_path: Path) -> None:
    code = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        block = bytearray(200 << 20)
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(60)
time.sleep(60)
"""
    failure, message = trouble(await run(tmp_path, code))
    assert (failure, "its processes hold" in message) == (Failure.OUT_OF_MEMORY, True)
    assert survivors(tmp_path) == []


async def test_forking_is_stopped_and_leaves_nothing(tmp_path: Path) -> None:
    code = "import os, time\nfor _ in range(40):\n    if os.fork() == 0: time.sleep(60); os._exit(0)\ntime.sleep(60)"
    failure, message = trouble(await run(tmp_path, code))
    assert (failure, "processes" in message) == (Failure.USER_ERROR, True)
    assert survivors(tmp_path) == []


async def test_children_that_outlive_the_program_are_ended(tmp_path: Path) -> None:
    code = "import os, time\nif os.fork() == 0: time.sleep(600)"
    ending = await run(tmp_path, code)
    assert ending.trouble is None
    psutil.wait_procs(survivors(tmp_path), timeout=5)
    assert survivors(tmp_path) == []


async def test_endless_output_costs_no_memory(tmp_path: Path) -> None:
    before = psutil.Process().memory_info().rss
    code = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    assert trouble(await run(tmp_path, code, Limits(wall_seconds=2)))[0] is Failure.TIMEOUT
    assert psutil.Process().memory_info().rss - before < 64 << 20


async def test_endless_file_is_cut_off(tmp_path: Path) -> None:
    ending = await run(tmp_path, "f = open('big', 'wb')\nwhile True: f.write(bytes(65536))")
    failure, message = trouble(ending)
    assert failure is Failure.USER_ERROR
    assert "more than the 1048576 bytes" in message
    assert (tmp_path / "big").stat().st_size <= 1 << 20


async def test_crash_tells_the_last_line_of_the_log(tmp_path: Path) -> None:
    failure, message = trouble(await run(tmp_path, "raise RuntimeError('the reason')"))
    assert failure is Failure.INFRASTRUCTURE
    assert message.endswith("status 1: RuntimeError: the reason")


async def test_log_is_the_programs_own_whatever_it_puts_in_its_place(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = tmp_path / "run"
    folder.mkdir()
    code = f"import os, sys; sys.stderr.write('said'); os.unlink('log.txt'); os.symlink({str(secret)!r}, 'log.txt')"
    assert (await run(folder, code)).log == b"said"


async def test_cancelling_ends_the_program(tmp_path: Path) -> None:
    up = asyncio.Event()

    async def on_line(_: str) -> None:
        up.set()

    program = ["-I", "-c", "print('up', flush=True); import time; time.sleep(600)"]
    task = asyncio.create_task(run_limited(program, tmp_path, QUICK, on_line))
    await up.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert survivors(tmp_path) == []


def test_program_dies_with_its_parent(tmp_path: Path) -> None:
    """kill -9 of the trainer ends its child."""
    code = f"""
import asyncio, pathlib
from holdtrue_models.worker.limits import Limits
from holdtrue_trainer.workers.sandbox import run_limited
async def on_line(line): print(line, flush=True)
program = ["-I", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
asyncio.run(run_limited(program, pathlib.Path({str(tmp_path)!r}), Limits(), on_line))
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    child.wait(timeout=10)


def test_usage_counts_this_session() -> None:
    count, memory = usage(os.getsid(0))
    assert count >= 1
    assert memory >= psutil.Process().memory_info().rss / 2
