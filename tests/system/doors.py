"""A platform on which a small model serves, the real command line, and what must not change when input is wrong."""

from __future__ import annotations

import asyncio
import csv
import json
import shlex
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from holdtrue.client import Client
from holdtrue.connection import Connection
from holdtrue.endpoints import parse
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_contracts.monitor.v1 import monitor_service_pb2
from holdtrue_contracts.monitor.v1.monitor_service_pb2 import ListWindowsRequest
from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import MonitoringServiceStub

from tests.system.conftest import ROOT, new_home, running

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from holdtrue.endpoints import Endpoints

COLUMNS = ("amount", "age", "visits", "distance")
LABEL = "bad"
GOOD_ROW: dict[str, Any] = dict.fromkeys(COLUMNS, 0.5)
WINDOW_SECONDS = 1.0
"""Length of a window of the monitor's."""
_ROWS = 600
_SETTINGS = {
    "HOLDTRUE_MONITOR_WINDOW_SECONDS": str(WINDOW_SECONDS),
    "HOLDTRUE_MONITOR_CLOSE_AFTER_SECONDS": "0.5",
}
_BY_ITSELF = {"predictions.v1", "replicas.v1", "evaluations.v1", "alerts.v1", "alert-state.v1"}
_TOPICS = sorted(set(TOPICS) - _BY_ITSELF)
"""Topics that are written only when somebody asks for something."""


class _Topics:
    """How many records each topic has had."""

    def __init__(self, where: Endpoints) -> None:
        self._runner = asyncio.Runner()
        self._parts = [TopicPartition(topic, i) for topic in _TOPICS for i in range(TOPICS[topic].partitions)]
        self._consumer: AIOKafkaConsumer = self._runner.run(self._connect(where.kafka))

    async def _connect(self, address: str) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(bootstrap_servers=address)
        await consumer.start()
        return consumer

    def ends(self) -> dict[str, int]:
        ends: dict[TopicPartition, int] = self._runner.run(self._consumer.end_offsets(self._parts))
        return {topic: sum(end for part, end in ends.items() if part.topic == topic) for topic in _TOPICS}

    def close(self) -> None:
        self._runner.run(self._consumer.stop())
        self._runner.close()


@dataclass(frozen=True)
class Shell:
    """The command line in a folder of its own, with the platform's home."""

    folder: Path
    home: dict[str, str]
    endpoints: Endpoints

    @cached_property
    def client(self) -> Client:
        """The SDK."""
        return Client(Connection(self.endpoints))

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `./holdtrue` to its end."""
        command, variables = [str(ROOT / "holdtrue"), *arguments], self.home | environment
        return subprocess.run(
            command, cwd=self.folder, env=variables, input=stdin, capture_output=True, text=True, check=False
        )

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a command line as it would be typed after `holdtrue`."""
        return self.run(*shlex.split(line))

    def must(self, *arguments: str) -> str:
        """Run a command that has to succeed; what it printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write(self, name: str, content: str | bytes) -> Path:
        """Put a file into the folder."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def state(self) -> dict[str, Any]:
        """Everything that wrong input could have changed."""
        client = self.client
        return {
            "datasets": [(d.name, d.latest_version, d.accepted, d.quarantined) for d in client.datasets.list()],
            "models": [(m.name, m.latest_version) for m in client.models.list()],
            "runs": [(r.spec.run_id, r.state) for r in client.runs.list()],
            "deployments": [(d.state.name, d.state.generation) for d in client.deployments.list()],
            "topics": self._topics.ends(),
        }

    def wait_for_window(self, at_ns: int) -> None:
        """Wait until the monitor has closed a window with predictions that ends after a time."""
        stub = MonitoringServiceStub(self.client.connection.channel("monitor", monitor_service_pb2.DESCRIPTOR))
        request = ListWindowsRequest(deployment="check", page_size=1)
        while True:
            windows = self.client.connection.call(stub.ListWindows, request).windows
            if windows and windows[0].to_ns > at_ns:
                return
            time.sleep(WINDOW_SECONDS / 5)

    @cached_property
    def _topics(self) -> _Topics:
        return _Topics(self.endpoints)

    def close(self) -> None:
        """Close all connections."""
        self.client.close()
        self._topics.close()

    def settled(self) -> dict[str, Any]:
        """The state once it has stopped changing by itself."""
        while True:
            state = self.state()
            time.sleep(WINDOW_SECONDS)
            if state == self.state():
                return state


@contextmanager
def serving(folder: Path) -> Generator[Shell]:
    """Start the platform, train `check@1` on dataset `visits`, and let it serve."""
    (folder / "home").mkdir()
    (folder / "files").mkdir()
    home = new_home(folder / "home")
    with running(home, **_SETTINGS) as platform:
        shell = Shell(folder / "files", home, parse(json.dumps(platform.endpoints), "up"))
        write_visits(shell)
        shell.must("datasets", "add", "visits", "visits.csv", "--label", LABEL)
        shell.must("train", "check", "--data", "visits", "--recipe", "logistic")
        shell.must("deploy", "check@1", "--wait")
        yield shell
        shell.close()


def write_visits(shell: Shell) -> None:
    """Write visits.csv, on which a line separates good from bad with some noise, and good.jsonl."""
    random = np.random.default_rng(7)
    x = random.random((_ROWS, len(COLUMNS)))
    bad = x[:, 0] + x[:, 1] + random.normal(0, 0.1, _ROWS) > 1
    with (shell.folder / "visits.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*COLUMNS, LABEL])
        table.writerows([*row, int(label)] for row, label in zip(x.tolist(), bad, strict=True))
    shell.write("good.jsonl", json.dumps(GOOD_ROW))
