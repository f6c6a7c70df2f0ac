"""`holdtrue up`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Any, Literal, TextIO

from cyclopts import Parameter
from holdtrue.cli.exits import Exit

from holdtrue_local import control, data_folder
from holdtrue_local.errors import AlreadyRunningError, StartError
from holdtrue_local.platform import Options
from holdtrue_local.progress import progress
from holdtrue_local.serve import serve

from .common import chosen, fail

_POLL_SECONDS = 0.1


def up(
    *,
    detach: Annotated[bool, Parameter(name=["--detach", "-d"], negative=())] = False,
    data: Path | None = None,
    only: Annotated[list[str] | None, Parameter(negative=())] = None,
    kafka: str | None = None,
    postgres: Annotated[str | None, Parameter(env_var="HOLDTRUE_POSTGRES", show_env_var=True)] = None,
    ports: Literal["default", "free"] = "default",
) -> None:
    """Start everything: PostgreSQL, Kafka and all services. Data persists.

    Ctrl-C ends all of it. A port is a setting, for example HOLDTRUE_REGISTRY_GRPC_PORT.

    Examples:
        holdtrue up
        holdtrue up --detach --ports free
        holdtrue up --only registry --only trainer --kafka broker:9092

    Args:
        detach: Come back when everything is ready, and leave it running until `holdtrue down`.
        data: The data folder, by default ~/.local/share/holdtrue.
        only: Start this service only (may be given several times).
        kafka: host:port of an outside Kafka, instead of our own.
        postgres: Superuser's URI of an outside PostgreSQL, instead of our own.
        ports: `free` takes whatever ports are free; see `holdtrue status`.
    """
    options = Options(chosen(data), tuple(only or ()), kafka, postgres, free_ports=ports == "free")
    began = time.monotonic()
    try:
        if detach:
            _say_ready(_detached(options), began)
        else:
            with progress() as report:
                asyncio.run(serve(options, report, lambda endpoints: _say_ready(endpoints, began)))
    except AlreadyRunningError as error:
        fail(str(error), Exit.CONFLICT)
    except StartError as error:
        fail(str(error))


def _detached(options: Options) -> dict[str, Any]:
    """Leave a process of its own behind; follow what it reports until it is ready."""
    if (pid := control.running(options.data)) is not None:
        raise AlreadyRunningError(f"the platform already runs on {options.data} (pid {pid}); see `holdtrue status`")
    data_folder.check(options.data)
    log = options.data / "logs" / "up.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as output, log.open() as reader:
        process = _spawn(options, output)
        try:
            return _follow(process, options.data, reader)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise


def _spawn(options: Options, output: IO[bytes]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "holdtrue_local.serve"],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    with process.stdin:  # type: ignore[union-attr]  a pipe was asked for
        process.stdin.write(json.dumps(asdict(options), default=str).encode())  # type: ignore[union-attr]
    return process


def _follow(process: subprocess.Popen[bytes], data: Path, reader: TextIO) -> dict[str, Any]:
    """Repeat what it reports until it is ready; when it fails, end as it did."""
    while process.poll() is None:
        sys.stderr.write(reader.read())
        status = _status(data)
        if status and status["state"] == "ready":
            sys.stderr.write(reader.read())
            return status["endpoints"]
        time.sleep(_POLL_SECONDS)
    sys.stderr.write(reader.read())
    sys.exit(process.returncode)


def _status(data: Path) -> dict[str, Any] | None:
    """What the platform says about itself; None also while it is too busy to answer."""
    try:
        return control.status(data)
    except TimeoutError:
        return None


def _say_ready(endpoints: dict[str, Any], began: float) -> None:
    print(f"holdtrue is ready ({time.monotonic() - began:.1f} s)")
    for name, addresses in endpoints["services"].items():
        shown = [
            f"http://{address}" if kind == "http" else f"{address} ({kind})" for kind, address in addresses.items()
        ]
        print(f"  {name:<10} {'  '.join(shown)}")
    print(f"  {'kafka':<10} {endpoints['kafka']}")
    print("next: holdtrue demo · holdtrue status · holdtrue logs · holdtrue down", flush=True)
