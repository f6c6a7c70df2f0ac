"""`holdtrue rollback`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from holdtrue.cli.arguments import MOST_INT, confirm
from holdtrue.cli.exits import Exit
from holdtrue.cli.output import Output, details
from holdtrue.cli.rollout import ROLLOUT, rollout_row
from holdtrue.client import connect

if TYPE_CHECKING:
    from holdtrue_contracts.deployer.v1.rollouts_pb2 import Rollout


def rollback(
    deployment: str,
    /,
    *,
    reason: str,
    to: Annotated[int, Parameter(validator=Number(gte=0, lte=MOST_INT))] = 0,
    yes: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    output: Output = "table",
) -> int:
    """Take an open rollout back, or return to an earlier version.

    It says what would happen and asks first.

    Examples:
        holdtrue rollback fraud-check --reason "chargebacks up"
        holdtrue rollback fraud-check --to 12 --reason "as agreed" --yes
        holdtrue rollback fraud-check --reason "what if" --dry-run

    Args:
        deployment: Name of the deployment.
        reason: Why, for the record.
        to: Number of the version to return to; 0: the last known good.
        yes: Do not ask.
        dry_run: Only say what would happen.
    """
    with connect() as client:
        plan = client.deployments.rollback(deployment, to_version=to, reason=reason, dry_run=True)
        if dry_run:
            details(rollout_row(plan), ROLLOUT, output)
            return Exit.OK
        if not confirm(_question(plan), yes=yes):
            sys.stderr.write("nothing was changed\n")
            return Exit.FAILED
        done = client.deployments.rollback(deployment, to_version=to, reason=reason)
        details(rollout_row(done), ROLLOUT, output)
    return Exit.OK


def _question(plan: Rollout) -> str:
    name = plan.deployment_name
    return f"All traffic of {name} goes from {name}@{plan.from_version} to {name}@{plan.to_version}."
