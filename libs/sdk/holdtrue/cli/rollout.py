"""`holdtrue rollout show`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from holdtrue.cli.messages import plain, time_text
from holdtrue.cli.output import Output
from holdtrue.cli.output import show as show_rows
from holdtrue.client import connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_contracts.deployer.v1.deployment_service_pb2 import RolloutHistory
    from holdtrue_contracts.deployer.v1.rollouts_pb2 import Rollout

_COLUMNS = ["at", "name", "state", "traffic", "checks", "reason"]
ROLLOUT = ["name", "from", "state", "traffic", "checks", "reason", "rollout"]
"""What people see of a rollout."""
_CLEAR = "\x1b[2J\x1b[H"


def show(
    deployment: str,
    /,
    *,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], negative=())] = False,
    output: Output = "table",
) -> None:
    """Show the steps of the rollouts of a deployment, newest rollout first, with the verdict of each check.

    Examples:
        holdtrue rollout show fraud-check
        holdtrue rollout show fraud-check -w

    Args:
        deployment: Name of the deployment.
        watch: Show it again every second until Ctrl-C.
    """
    with connect() as client:
        while True:
            rows = _rows(client.deployments.rollouts(deployment))
            if watch and sys.stdout.isatty():
                sys.stdout.write(_CLEAR)
            show_rows(rows, _COLUMNS, output, name="rollout", empty=f"{deployment} has had no rollout yet")
            if not watch:
                return
            time.sleep(1)


def rollout_row(rollout: Rollout) -> dict[str, Any]:
    """Return what there is to show of a rollout."""
    words = plain(rollout)
    return {
        "name": f"{rollout.deployment_name}@{rollout.to_version}",
        "from": f"{rollout.deployment_name}@{rollout.from_version}" if rollout.from_version else "",
        "state": words["state"],
        "traffic": f"{rollout.weight / 100:g} %",
        "checks": "; ".join(f"{check['check']} {check['outcome']}" for check in words["checks"]),
        "reason": rollout.reason,
        "rollout": rollout.rollout_id,
    }


def _rows(histories: Sequence[RolloutHistory]) -> list[dict[str, Any]]:
    return [
        {"at": time_text(change.at)} | rollout_row(change.rollout)
        for history in histories
        for change in history.changes
    ]
