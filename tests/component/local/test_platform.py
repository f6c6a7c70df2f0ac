"""`up` and its companions, as a person uses them; the only stand-in is a toy service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import asyncpg
import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_local import control, services
from holdtrue_local.errors import AlreadyRunningError, StartError
from holdtrue_local.home import socket_dir
from holdtrue_local.platform import Options, Platform
from holdtrue_local.processes import is_alive
from holdtrue_local.progress import plain

from .conftest import HOLDTRUE, Shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


def _wait(true: Callable[[], object]) -> None:
    """Wait until it is true; the suite's time limit ends a wait in vain."""
    while not true():
        time.sleep(0.02)


def _programs(shell: Shell) -> dict[str, int]:
    status = control.status(shell.data)
    assert status
    return {program["name"]: program["pid"] for program in status["programs"]}


def _family(pid: int) -> list[int]:
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def _having(pid: int, word: str) -> list[int]:
    """Everything that `pid` has started with the word in its command line."""
    found: list[int] = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child.pid] if word in " ".join(child.cmdline()) else []
    return found


def test_up_status_logs_down(shell: Shell) -> None:
    started = shell.run("up", "--detach", "--ports", "free")
    assert started.returncode == 0, started.stderr
    assert "toy" in started.stdout
    assert "kafka" in started.stderr  # progress

    status = json.loads(shell.run("status", "-o", "json").stdout)
    assert status["state"] == "ready"
    assert {(p["name"], p["state"], p["answers"]) for p in status["programs"]} == {
        (name, "ready", True) for name in ("postgres", "kafka", "toy")
    }
    assert json.loads((shell.data / "endpoints.json").read_text()) == status["endpoints"]
    table = shell.run("status").stdout
    assert status["endpoints"]["services"]["toy"]["grpc"] in table
    assert status["endpoints"]["kafka"] in table

    assert '"ready"' in shell.run("logs", "toy").stdout
    assert any(line.startswith("kafka ") for line in shell.run("logs", "-n", "3").stdout.splitlines())
    assert shell.run("logs", "nobody").returncode == 3

    again = shell.run("up")
    assert again.returncode == 5
    assert f"already runs on {shell.data} (pid {status['pid']})" in again.stderr

    family = _family(status["pid"])
    assert shell.run("down").stdout == "stopped\n"
    assert not any(map(is_alive, family))
    assert not (shell.data / "endpoints.json").exists()
    assert shell.run("status").returncode == 7
    assert "nothing runs" in shell.run("down").stdout


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, marks=pytest.mark.long),
    ],
)
def test_however_up_ends_nothing_is_left_and_the_next_up_works(shell: Shell, number: signal.Signals) -> None:
    up = shell.up(HOLDTRUE_TOY_CHILD="1")
    family = _family(up.pid)
    up.send_signal(number)
    up.communicate()
    assert up.returncode == (-9 if number == signal.SIGKILL else 0)
    _wait(lambda: not any(map(is_alive, family)))
    shell.up().send_signal(signal.SIGTERM)


@pytest.mark.parametrize("step", ["initdb", "StorageTool", "holdtrue_local.migrate"])
def test_ctrl_c_while_it_starts_leaves_nothing(shell: Shell, step: str) -> None:
    up = shell.start("up", "--ports", "free")
    _wait(lambda: _having(up.pid, step))
    working, family = _having(up.pid, step), _family(up.pid)
    up.send_signal(signal.SIGINT)
    up.communicate()
    assert not any(map(is_alive, working)), "`up` ends after what it has started"
    _wait(lambda: not any(map(is_alive, family)))  # what only hangs on it is ended by the kernel


@pytest.mark.parametrize("name", ["postgres", "kafka", "toy"])
def test_what_dies_is_started_again(shell: Shell, name: str) -> None:
    shell.up()
    victim = _programs(shell)[name]
    os.kill(victim, signal.SIGKILL)

    def back() -> bool:
        status = control.status(shell.data)
        assert status
        program = next(program for program in status["programs"] if program["name"] == name)
        return program["answers"] and program["pid"] not in {victim, None} and program["restarts"] == 1

    _wait(back)


def test_a_busy_port_names_its_owner(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        up = shell.run("up", "--ports", "free", HOLDTRUE_TOY_GRPC_PORT=port)
    assert up.returncode == 1
    assert f"port {port} (toy, grpc) is taken by pid {os.getpid()}" in up.stderr
    assert "HOLDTRUE_TOY_GRPC_PORT" in up.stderr


@pytest.mark.parametrize("port", ["http", "0", "70000", "-1"])
def test_a_port_that_is_none_is_an_error(shell: Shell, port: str) -> None:
    up = shell.run("up", "--ports", "free", HOLDTRUE_TOY_GRPC_PORT=port)
    assert up.returncode == 1
    assert f"✗ HOLDTRUE_TOY_GRPC_PORT: expected a port from 1 to 65535, got {port!r}; correct it" in up.stderr
    assert not shell.data.exists()


def test_outside_servers_that_do_not_answer_are_named(shell: Shell) -> None:
    secret = "s3cret"  # noqa: S105  it must not be shown
    uri = f"postgresql://postgres:{secret}@127.0.0.1:1/postgres"
    up = shell.run("up", "--ports", "free", "--kafka", "127.0.0.1:2", HOLDTRUE_POSTGRES=uri)
    assert up.returncode == 1
    assert "Kafka at 127.0.0.1:2: KafkaConnectionError: " in up.stderr
    assert "is it there? --kafka names it" in up.stderr
    assert "PostgreSQL at 127.0.0.1:1: " in up.stderr
    assert "--postgres names both" in up.stderr
    assert secret not in up.stderr
    assert "Traceback" not in up.stderr


def test_a_service_with_wrong_settings_shows_its_log(shell: Shell) -> None:
    for arguments in ((), ("--detach",)):
        up = shell.run("up", "--ports", "free", *arguments, HOLDTRUE_TOY_NONSENSE="1")
        assert up.returncode == 1
        assert "HOLDTRUE_TOY_NONSENSE: no such setting" in up.stderr
        assert control.running(shell.data) is None


def test_an_unknown_service_is_an_error(shell: Shell) -> None:
    up = shell.run("up", "--only", "trayner")
    assert up.returncode == 1
    assert "there is no service 'trayner'; the services are toy" in up.stderr


def test_a_data_folder_that_cannot_be_written_is_an_error(shell: Shell) -> None:
    shell.data.write_text("a file")
    up = shell.run("up")
    assert up.returncode == 1
    assert f"cannot write into {shell.data}: File exists; choose another folder with --data" in up.stderr


def _on_a_small_disk(shell: Shell, options: str) -> subprocess.CompletedProcess[str]:
    """Run `up` where the data folder is a file system of its own, in a mount namespace."""
    shell.data.mkdir()
    script = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    up = [*HOLDTRUE, "up", "--ports", "free", "--data", shell.data]
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, shell.data, *up]
    done = subprocess.run(command, env=shell.environment, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("this machine allows no mounts in a namespace")
    return done


def test_a_full_disk_is_an_error(shell: Shell) -> None:
    up = _on_a_small_disk(shell, "size=500k")
    assert up.returncode == 1
    assert f"cannot write into {shell.data}: No space left on device" in up.stderr


def test_a_nearly_full_disk_is_an_error(shell: Shell) -> None:
    up = _on_a_small_disk(shell, "size=50m")
    assert up.returncode == 1
    assert "MB are free where" in up.stderr


def test_a_read_only_disk_is_an_error(shell: Shell) -> None:
    up = _on_a_small_disk(shell, "size=500m,ro")
    assert up.returncode == 1
    assert f"cannot write into {shell.data}: Read-only file system" in up.stderr


@pytest.fixture
async def platform(tmp_path: Path, toy: services.Service) -> AsyncIterator[Platform]:
    assert toy
    platform = Platform(Options(tmp_path / "data", free_ports=True), plain)
    try:
        yield platform
    finally:
        await platform.stop()


async def test_schemas_and_topics_are_there_before_the_services(platform: Platform, tmp_path: Path) -> None:
    await platform.start()
    admin = AIOKafkaAdminClient(bootstrap_servers=platform.endpoints["kafka"])
    await admin.start()
    assert set(TOPICS) <= set(await admin.list_topics())
    await admin.close()
    sockets = socket_dir(tmp_path / "data" / "run" / "postgres")
    connection = await asyncpg.connect(host=str(sockets), user="toy", database="postgres")
    await connection.execute("CREATE TABLE toy.mine (id int)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("CREATE SCHEMA theirs")
    await connection.close()


async def test_one_platform_per_data_folder(platform: Platform, tmp_path: Path) -> None:
    await platform.start()
    second = Platform(Options(tmp_path / "data", free_ports=True), plain)
    with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()}"):
        await second.start()
    await second.stop()
    assert (await platform.status())["state"] == "ready"


async def test_outside_servers_are_used_and_get_roles_with_passwords(
    database_dsn: str, kafka: str, tmp_path: Path, toy: services.Service
) -> None:
    platform = Platform(Options(tmp_path / "data", kafka=kafka, postgres=database_dsn), plain)
    try:
        await platform.start()
        assert [program["name"] for program in (await platform.status())["programs"]] == ["toy"]
        kept = tmp_path / "data" / "postgres-passwords.json"
        assert kept.stat().st_mode & 0o777 == 0o600
        assert set(json.loads(kept.read_text())) == {toy.name}
    finally:
        await platform.stop()


async def test_a_start_that_fails_stops_what_had_started(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(psutil.Process().children())
    monkeypatch.setenv("HOLDTRUE_TOY_GRACE_SECONDS", "never")
    with pytest.raises(StartError, match="HOLDTRUE_TOY_GRACE_SECONDS"):
        await platform.start()
    await platform.stop()
    await asyncio.to_thread(_wait, lambda: before.issuperset(psutil.Process().children()))
    assert control.running(tmp_path / "data") is None
