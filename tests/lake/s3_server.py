"""A real S3-compatible server (SeaweedFS) on free ports, and a proxy that makes of it one without conditional puts."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdtrue_local import foreign
from holdtrue_local.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

BUCKET = "lake"
_ACTIONS = ["Admin", "Read", "Write", "List"]
_KEYS = {"accessKey": "lake", "secretKey": "secret of the lake"}
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
          "s3.port", "s3.port.grpc")  # fmt: skip
_HOP = {"transfer-encoding", "connection", "content-length"}


@contextmanager
def seaweedfs(folder: Path) -> Generator[int]:
    """Start the server with an empty bucket; yield its port."""
    users = [{"name": "lake", "credentials": [_KEYS], "actions": _ACTIONS}, {"name": "anonymous", "actions": _ACTIONS}]
    (folder / "s3.json").write_text(json.dumps({"identities": users}))
    (folder / "data").mkdir()
    ports = {name: free_port() for name in _PORTS}
    program = Path(foreign.interpreter("s3")).with_name("weed")
    options = [f"-{name}={port}" for name, port in ports.items()]
    options += [
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={folder / 's3.json'}",
    ]
    options += [f"-dir={folder / 'data'}", "-volume.max=10", "-master.volumeSizeLimitMB=64"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([program, "server", *options], stdout=log, stderr=log) as process,
    ):
        try:
            _make_bucket(ports["s3.port"], process)
            yield ports["s3.port"]
        finally:
            process.kill()


def options_for(port: int, **more: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": _KEYS["accessKey"],
        "AWS_SECRET_ACCESS_KEY": _KEYS["secretKey"],
        **more,
    }


@contextmanager
def without_conditions(port: int) -> Generator[int]:
    """Pass everything on to a server but the condition of a put; yield the port."""

    class Passing(_Passing):
        target = port

    with ThreadingHTTPServer(("127.0.0.1", 0), Passing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target = 0

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        kept = {name: value for name, value in self.headers.items() if name.lower() != "if-none-match"}
        connection = http.client.HTTPConnection("127.0.0.1", self.target)
        connection.request(self.command, self.path, body, kept)
        answer = connection.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        size = answer.getheader("content-length") if self.command == "HEAD" else len(data)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815  names of http.server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  as http.server calls it
        """Say nothing."""


def _make_bucket(port: int, process: subprocess.Popen[bytes]) -> None:
    """Make the bucket as soon as the server can."""
    while process.poll() is None:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=30):  # noqa: S310
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise RuntimeError(f"SeaweedFS ended with {process.returncode}")
