"""A real Apache Kafka of our own: KRaft, one process, loopback only."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import struct
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

from .errors import StartError
from .home import cached
from .jars import archive_path, kafka_jars
from .java import find_java
from .ports import check, free_port
from .processes import Program, tethered

# Small heap, one quick compiler: 150 MB resident and ready after 1.5 s of processor time (on a fast machine).
_JVM = (
    "-Xms96m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss",
)
_METADATA_REQUEST = struct.pack(">ihhihi", 14, 3, 1, 0, -1, 0)  # Metadata v1: no client id, no topics
_CLASSES = "classes.jsa"
PORT_VARIABLE = "HOLDTRUE_KAFKA_PORT"
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


class Kafka(Program):
    """One broker on one data folder. Safe against kill -9 of itself; with one broker not against loss of power.

    Attributes:
        data: The broker's own folder; made by the first `start`.
        bootstrap: `127.0.0.1:<port>`, the same over restarts.
    """

    start_seconds = 180.0  # 1.5 s where there is a processor for it, a minute where thirty others want it, too

    def __init__(self, data: Path, *, port: int | None = None) -> None:
        """Name the folder and the port (a free one by default)."""
        self.data = data.absolute()
        super().__init__("kafka", self.data.parent / "logs" / f"{self.data.name}.log")
        self._port = port or free_port()
        self.bootstrap = f"127.0.0.1:{self._port}"
        self._run = self.data.parent / "run"
        self._java: list[str] = []

    def prepare(self) -> None:
        """Fetch what is missing, format a new folder: in a draft that is renamed, so that half of one is never used.

        Raises:
            StartError: the port is taken, something is missing and cannot be downloaded, or Kafka cannot use the path.
        """
        check(self._port, "kafka", PORT_VARIABLE)
        if "," in str(self.data):
            raise StartError(
                f"Kafka splits paths at commas, and {self.data} has one; choose another folder with --data"
            )
        jars, java = kafka_jars(self.say), find_java(self.say)
        self._java = [str(java), *self._classes(java), *_JVM, "-cp", str(jars / "*")]
        self._run.mkdir(parents=True, exist_ok=True)
        if (self.data / "meta.properties").exists():
            return
        draft = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        properties = self._write_properties(draft)
        # `=`, because an id may begin with a hyphen.
        command = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", properties]
        self.run_step(tethered([*self._java, *command]), f"create {self.data}", env=self.environment())
        draft.rename(self.data)

    def command(self) -> list[str]:
        """Java with the broker and its properties."""
        return tethered([*self._java, "kafka.Kafka", self._write_properties(self.data)])

    def environment(self) -> dict[str, str]:
        """Ours, but with UTF-8 for the names of files: Java finds no others than ASCII in the locale C."""
        return os.environ | {"LC_ALL": "C.UTF-8"}

    async def ready(self) -> bool:
        """Ask the broker for its metadata: it is ready when it names itself as one that lives."""
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(_METADATA_REQUEST)
                _size, _correlation, brokers = struct.unpack(">iii", await reader.readexactly(12))
                writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        return brokers > 0

    def _classes(self, java: Path) -> list[str]:
        """Java's flag for the classes that a broker loads, kept as they are after loading: half the time of a start.

        (JEP 350.) Java looks by itself whether they are still those of its jars, and does without them if not. A Java
        without a default archive keeps none.
        """
        archive = cached(archive_path(java), _record_classes, self.say, doing="preparing") / _CLASSES
        return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []

    def _write_properties(self, log_dir: Path) -> str:
        """Write the settings, with a new port for the controller, which only this process ever calls."""
        controller = f"127.0.0.1:{free_port()}"
        addresses = {
            "log.dirs": str(log_dir),
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "controller.quorum.voters": f"1@{controller}",
        }
        path = self._run / f"{log_dir.name}.properties"
        path.write_text("".join(f"{name}={_escaped(value)}\n" for name, value in (_SETTINGS | addresses).items()))
        return str(path)


class _Recorder(Kafka):
    """A broker that leaves the classes that it has loaded in a file when it stops."""

    stop_seconds = 180.0

    def __init__(self, data: Path, classes: Path) -> None:
        super().__init__(data)
        self._archive = classes

    def command(self) -> list[str]:
        """The broker with the flag: not the tool that formats, which has other classes."""
        java, *arguments = self._java
        flag = f"-XX:ArchiveClassesAtExit={self._archive}"
        return tethered([java, flag, *arguments, "kafka.Kafka", self._write_properties(self.data)])

    def _classes(self, java: Path) -> list[str]:
        del java
        return []


def _record_classes(folder: Path) -> None:
    async def run_once(data: Path) -> None:
        recorder = _Recorder(data, folder / _CLASSES)
        await recorder.start()
        await recorder.stop()

    with TemporaryDirectory(dir=folder) as place:  # which is a draft: nothing is left by whoever gives up
        asyncio.run(run_once(Path(place) / "kafka"))


def _escaped(value: str) -> str:
    """Write a value for Java, which reads Latin-1 where backslashes escape."""
    units = memoryview(value.encode("utf-16-le", "surrogatepass")).cast("H")
    return "".join(chr(unit) if 32 <= unit < 127 and unit != 92 else f"\\u{unit:04x}" for unit in units)  # noqa: PLR2004
