"""`holdtrue lock`, for those who work on holdtrue."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from holdtrue_local.relock import relock


def lock(*, upgrade: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Write the lock files of all environments anew, after a project's dependencies have changed.

    Examples:
        holdtrue lock
        holdtrue lock --upgrade

    Args:
        upgrade: Take the newest versions that the projects allow.
    """
    relock(upgrade=upgrade)
