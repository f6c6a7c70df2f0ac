"""What serving costs over grpc.aio: inference with its prediction log, against a bare server that echoes the bytes.

    python benchmarks/inference.py [--rounds N] [--seconds S]

Both servers are grpc.aio with a generic handler; the other one parses nothing and runs nothing. The same client, which
speaks HTTP/2 with ready-made frames so that it is never the bottleneck, asks both in turn, in a closed loop: single
rows of 30 numbers, distinct, each with an id of its own. The prediction log goes to a real Kafka. Server on one core,
everything else on the others. Goal: at least 0.75 of the echo.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import psutil
import uvloop
from holdtrue_contracts import codec
from holdtrue_contracts.actor import service_actor
from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState, LogMode, Revision, Role
from holdtrue_contracts.oip import SERVICE, client, inference_pb2
from holdtrue_events.kafka import Kafka as Bus
from holdtrue_events.topics import ensure
from holdtrue_local.kafka import Kafka
from holdtrue_local.ports import free_port
from holdtrue_models import Column, Signature
from holdtrue_models.package import export
from holdtrue_storage.blobs import DirectoryBlobs
from sklearn.ensemble import GradientBoostingClassifier

WIDTH = 30
REQUESTS = 20_000
SHAPES = ((4, 16), (64, 1), (1, 1), (8, 64))
_METHOD = f"/{SERVICE}/ModelInfer"


def make_state(blobs: DirectoryBlobs) -> DeploymentState:
    """A gradient-boosting model of 100 trees, stored, with all the traffic."""
    random = np.random.default_rng(0)
    x = random.normal(size=(2000, WIDTH)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int)
    signature = Signature.binary(tuple(Column(name=f"c{i}") for i in range(WIDTH)), (0, 1), 0.5)
    model: Any = GradientBoostingClassifier(random_state=0)
    package = export(model.fit(x, y), signature, x[:64], 0)
    manifest = package.manifest(score_map="identity", importances={}, pins={}, reference_profile="0" * 64)
    revision = Revision(
        revision="r1",
        slot=1,
        model_version=1,
        manifest_digest=blobs.put(manifest.to_bytes()),
        artifact_digest=blobs.put(package.files["onnx"]),
        kind="onnx",
        role=Role.ROLE_CHAMPION,
        weight=10_000,
        threshold=0.5,
        log_mode=LogMode.LOG_MODE_ASYNC,
    )
    return DeploymentState(deployment_id="d", name="m", generation=1, salt="s", id_key=1, revisions=[revision])


def make_requests() -> list[bytes]:
    """Distinct single rows with distinct ids."""
    rows = np.random.default_rng(1).normal(size=(REQUESTS, 1, WIDTH)).astype(np.float32)
    return [
        client.infer_request("m", {"X": row}, external_id=f"order-{number:06}").SerializeToString()
        for number, row in enumerate(rows)
    ]


async def echo(port: int) -> None:
    """Be the bare server."""

    async def answer(data: bytes, _context: object) -> bytes:
        return data

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


class Connection(asyncio.Protocol):
    """One HTTP/2 connection with so many streams in flight, as long as it runs."""

    _SETTINGS = bytes.fromhex("00000c0400000000000002000000000004") + struct.pack(">I", 2**31 - 1)
    _WINDOW = struct.pack(">BHBBII", 0, 4, 8, 0, 0, 2**31 - 1 - 65_535)

    def __init__(self, load: Load, streams: int) -> None:
        self._load, self._streams = load, streams
        self._buffer = b""
        self._next_stream = 1
        self._begun: dict[int, float] = {}
        self._with_data = set[int]()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self._SETTINGS + self._WINDOW)
        self._transport.write(b"".join([self._request() for _ in range(self._streams)]))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        position, out = 0, list[bytes]()
        while len(buffer) - position >= 9:
            length = int.from_bytes(buffer[position : position + 3])
            end = position + 9 + length
            if len(buffer) < end:
                break
            kind, flags = buffer[position + 3], buffer[position + 4]
            stream = int.from_bytes(buffer[position + 5 : position + 9]) & 0x7FFF_FFFF
            if kind == 0 and length:
                self._with_data.add(stream)
                self._load.received(length)
            elif kind == 1 and flags & 1:
                out += self._finished(stream)
            elif kind == 3:
                self._load.failed += 1
                out += self._finished(stream)
            elif kind == 4 and not flags & 1:
                out.append(bytes.fromhex("000000040100000000"))
            elif kind == 6 and not flags & 1:
                out.append(bytes.fromhex("000008060100000000") + buffer[position + 9 : end])
            position = end
        self._buffer = buffer[position:]
        if out:
            self._transport.write(b"".join(out))

    def close(self) -> None:
        self._transport.close()

    def _finished(self, stream: int) -> list[bytes]:
        if stream in self._with_data:
            self._with_data.discard(stream)
            self._load.latencies.append(time.perf_counter() - self._begun.pop(stream))
        else:
            self._load.failed += 1
        if self._load.ended:
            return []
        window = struct.pack(">BHBBII", 0, 4, 8, 0, 0, 1 << 16) if stream % 512 == 1 else b""
        return [window, self._request()]

    def _request(self) -> bytes:
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._begun[stream] = time.perf_counter()
        headers, body = self._load.next()
        size = len(body) + 5
        return b"".join(
            (
                struct.pack(">BHBBI", 0, len(headers), 1, 4, stream),
                headers,
                struct.pack(">BHBBIBI", size >> 16, size & 0xFFFF, 0, 1, stream, 0, len(body)),
                body,
            )
        )


class Load:
    """A closed loop of requests over several connections."""

    def __init__(self, bodies: list[bytes]) -> None:
        self._bodies = bodies
        self._number = 0
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": _METHOD,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-timeout": "10S",
        }
        self._headers = b"".join(_literal(name) + _literal(value, b"") for name, value in fields.items())
        self.latencies = list[float]()
        self.failed = 0
        self.bytes = 0
        self.ended = False

    def next(self) -> tuple[bytes, bytes]:
        """Headers and body of the next request."""
        self._number = (self._number + 1) % len(self._bodies)
        return self._headers, self._bodies[self._number]

    def received(self, length: int) -> None:
        """Count bytes of answers."""
        self.bytes += length

    async def run(self, port: int, connections: int, streams: int, seconds: float) -> None:
        """Ask for so long."""
        loop = asyncio.get_running_loop()
        made = [
            (await loop.create_connection(lambda: Connection(self, streams), "127.0.0.1", port))[1]
            for _ in range(connections)
        ]
        await asyncio.sleep(seconds)
        self.ended = True
        await asyncio.sleep(0.1)
        for connection in made:
            connection.close()


def _literal(text: str, kind: bytes = b"\x00") -> bytes:
    """A name or value of a header field that no table knows and none shall (HPACK, RFC 7541, 6.2.2)."""
    return kind + bytes((len(text),)) + text.encode()


@dataclass
class Round:
    """What one round measured: requests a second, server's CPU a request and p50, p99 in microseconds."""

    rate: float
    cpu: float
    p50: float
    p99: float


async def measure(
    process: psutil.Process, port: int, bodies: list[bytes], shape: tuple[int, int], seconds: float
) -> Round:
    """One round against one server."""
    load = Load(bodies)
    before, began = process.cpu_times(), time.perf_counter()
    await load.run(port, *shape, seconds)
    took, after = time.perf_counter() - began - 0.1, process.cpu_times()
    assert not load.failed, f"{load.failed} requests failed"
    assert load.latencies, "nothing was answered"
    cpu = after.user + after.system - before.user - before.system
    latencies = sorted(load.latencies)
    count = len(latencies)
    return Round(
        count / took, cpu / count * 1e6, latencies[count // 2] * 1e6, latencies[min(count - 1, count * 99 // 100)] * 1e6
    )


async def answers(port: int) -> None:
    """Wait until a server answers at all."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()


async def serves(port: int) -> None:
    """Wait until the model is served."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ready = client.method(channel, "ModelReady")
        while not (await ready(inference_pb2.ModelReadyRequest(name="m"), wait_for_ready=True)).ready:
            await asyncio.sleep(0.05)


def spawn(*arguments: str, **environment: str) -> psutil.Process:
    """A server on the first core."""
    process = subprocess.Popen([sys.executable, *arguments], env={**os.environ, **environment})
    os.sched_setaffinity(process.pid, {0})
    return psutil.Process(process.pid)


async def bench(rounds: int, seconds: float) -> None:
    """Start both servers, measure in turn, print a table."""
    bodies = make_requests()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = Kafka(folder / "kafka")
        await broker.start()
        stack.push_async_callback(broker.kill)
        await ensure(broker.bootstrap)
        bus = Bus(broker.bootstrap)
        producer = bus.producer()
        await producer.start()
        stack.push_async_callback(producer.stop)
        state = make_state(DirectoryBlobs(folder / "blobs"))
        record = codec.encode(codec.new_event(state, source="benchmark", actor=service_actor("deployer")))
        await producer.send_and_wait(record.topic, record.value, record.key, headers=list(record.headers))

        ports = {"echo": free_port(), "inference": free_port()}
        prefix = "HOLDTRUE_INFERENCE_"
        settings = {
            "GRPC_PORT": str(ports["inference"]),
            "METRICS_PORT": "0",
            "KAFKA": broker.bootstrap,
            "BLOBS": str(folder / "blobs"),
            "CACHE": str(folder / "cache"),
            "LOG_LEVEL": "warning",
        }
        servers = {
            "echo": spawn(__file__, "--echo", str(ports["echo"])),
            "inference": spawn("-m", "holdtrue_inference", **{prefix + key: value for key, value in settings.items()}),
        }
        for process in servers.values():
            stack.callback(process.terminate)
        os.sched_setaffinity(0, set(range(1, os.cpu_count() or 1)) or {0})
        await answers(ports["echo"])
        await serves(ports["inference"])

        print(f"{'connections × streams':22} {'server':10} {'req/s':>8} {'CPU µs':>8} {'p50 µs':>8} {'p99 µs':>8}")
        for shape in SHAPES:
            measured: dict[str, list[Round]] = {name: [] for name in servers}
            for number in range(rounds + 1):
                for name, process in servers.items():
                    result = await measure(process, ports[name], bodies, shape, seconds)
                    if number:  # the first warms up
                        measured[name].append(result)
            median = {name: _median(results) for name, results in measured.items()}
            for name, r in median.items():
                print(f"{shape[0]:>10} × {shape[1]:<9} {name:10} {r.rate:8.0f} {r.cpu:8.1f} {r.p50:8.0f} {r.p99:8.0f}")
            ours, bare = median["inference"], median["echo"]
            print(f"{'':22} ratio: rate {ours.rate / bare.rate:.2f}, CPU a request {bare.cpu / ours.cpu:.2f}")


def _median(results: list[Round]) -> Round:
    return Round(*(statistics.median(getattr(r, name) for r in results) for name in ("rate", "cpu", "p50", "p99")))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count, after one to warm up")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a round")
    parser.add_argument("--echo", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    uvloop.run(echo(options.echo) if options.echo else bench(options.rounds, options.seconds))


if __name__ == "__main__":
    main()
