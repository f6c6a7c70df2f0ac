"""How to run PostgreSQL, which refuses to be root, without creating a user or touching folders that are not ours."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from typing import Literal

Launcher = Literal["plain", "namespace", "setpriv"]
NOBODY = 65534
_NAMESPACE = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--")
_SETPRIV = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--pdeathsig=QUIT", "--")
PREFIX: dict[Launcher, tuple[str, ...]] = {"plain": (), "namespace": _NAMESPACE, "setpriv": _SETPRIV}


@cache
def launcher() -> Launcher:
    """Say how to run the server here.

    `plain` for an ordinary user; for root `namespace`, where root is called nobody inside and nothing on disk changes
    hands; where the kernel does not allow that (as in many containers) `setpriv`: the server runs as nobody, with its
    programs and data where nobody can reach them.
    """
    if os.geteuid() != 0:
        return "plain"
    trial = subprocess.run([*_NAMESPACE, "true"], check=False, capture_output=True)
    return "namespace" if trial.returncode == 0 else "setpriv"
