"""A real Apache Kafka of our own: KRaft, one process, loopback only."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import struct
import subprocess
import uuid
from typing import TYPE_CHECKING

from .jars import kafka_jars
from .java import find_java
from .processes import StartError, free_port, kill, spawn, stop, tail, tethered, until

if TYPE_CHECKING:
    from pathlib import Path

# Small heap, one quick compiler: 160 MB resident and ready 1.5 s after the start.
_JVM = ("-Xms96m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss",
)
_METADATA_REQUEST = struct.pack(">ihhihi", 14, 3, 1, 0, -1, 0)  # Metadata v1: no client id, no topics
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.dedupe.buffer.size": "2097152",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.index.size.max.bytes": "65536",  # a data folder of 6 MB instead of 800
    "broker.session.timeout.ms": "1500",  # after an unclean stop registration waits for the old session to end
    "broker.heartbeat.interval.ms": "300",
}


class Kafka:
    """One broker on one data folder. `start`, `stop` and `kill` may follow each other in any order.

    Safe against kill -9 of itself; with one broker not against loss of power.

    Attributes:
        data: The broker's own folder; made by the first `start`.
        bootstrap: `127.0.0.1:<port>`, the same over restarts.
    """

    def __init__(self, data: Path, *, port: int | None = None) -> None:
        """Name the folder and the port (a free one by default)."""
        self.data = data.absolute()
        self.log = self.data.parent / "logs" / f"{self.data.name}.log"
        self._port = port or free_port()
        self.bootstrap = f"127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    async def start(self) -> None:
        """Format the folder when it is new, start the broker, return when it serves.

        Raises:
            StartError: with the last lines of the broker's log.
            JarError, JavaError: something is missing and cannot be downloaded.
        """
        self._format()
        properties = self._write_properties(self.data, self.data.parent / f"{self.data.name}.properties")
        argv = tethered([*_java(), "kafka.Kafka", str(properties)], signal.SIGKILL)
        self._process = spawn(argv, log=self.log)
        try:
            await until(self._serves, self._process, seconds=60, what="Kafka")
        except StartError as error:
            await self.kill()
            raise StartError(f"{error}; {self.log} ends with:\n{tail(self.log)}") from None

    async def stop(self) -> None:
        """Controlled shutdown: the log is flushed and closed."""
        if self._process:
            await stop(self._process, signal.SIGTERM, grace=20)

    async def kill(self) -> None:
        """Kill -9 the broker, as a crash would."""
        if self._process:
            await kill(self._process)

    def _format(self) -> None:
        if (self.data / "meta.properties").exists():
            return
        draft = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        properties = self._write_properties(draft, draft / "format.properties")
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*_java(), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise StartError(f"Kafka could not create {self.data}: {done.stderr.strip() or done.stdout.strip()}")
        properties.unlink()
        draft.rename(self.data)

    def _write_properties(self, log_dir: Path, path: Path) -> Path:
        controller = f"127.0.0.1:{free_port()}"
        addresses = {
            "log.dirs": str(log_dir),
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "controller.quorum.voters": f"1@{controller}",
        }
        path.write_text("".join(f"{name}={value}\n" for name, value in (_SETTINGS | addresses).items()))
        return path

    def _serves(self) -> bool:
        """Ask the broker for its metadata: it is ready when it names itself as one that lives."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(_METADATA_REQUEST)
                answer = connection.recv(12)
        except OSError:
            return False
        return len(answer) == 12 and struct.unpack(">iii", answer)[2] > 0  # noqa: PLR2004  size, correlation, brokers


def _java() -> list[str]:
    return [str(find_java()), *_JVM, *_LOGGING, "-cp", os.fspath(kafka_jars() / "*")]
