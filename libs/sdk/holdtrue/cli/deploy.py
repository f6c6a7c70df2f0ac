"""`holdtrue deploy`."""

from __future__ import annotations

from holdtrue.cli.arguments import Selector, percentages, seconds
from holdtrue.cli.output import Output, details, suggest
from holdtrue.cli.progress import progress
from holdtrue.cli.rollout import ROLLOUT, rollout_row
from holdtrue.client import connect


def deploy(
    version: str,
    /,
    *,
    canary: str = "",
    every: str = "0s",
    reason: str = "",
    wait: bool = False,
    timeout: str = "6h",
    output: Output = "table",
) -> None:
    """Roll a model version out: its share of the traffic grows step by step while its precision is watched.

    The deployment, named like the model, is made on first use. Versions that pass their gate later follow by
    themselves.

    Examples:
        holdtrue deploy tumour-check@1 --wait
        holdtrue deploy fraud-check@latest --canary 5,25,50,100 --every 10m

    Args:
        version: NAME@VERSION, or NAME or NAME@latest for the newest.
        canary: Steps in percent of the traffic.
        every: How long a step takes at least.
        reason: Why, for the record.
        wait: Come back when the version answers everything.
        timeout: How long to wait; the rollout itself goes on.
    """
    chosen = Selector.parse(version)
    steps, pause, limit = percentages(canary) if canary else [], seconds(every), seconds(timeout)
    with connect() as client, progress(chosen.name) as say:
        number = chosen.model_version(client)
        rollout = client.deployments.deploy(chosen.name, number, canary=steps, every=pause, reason=reason)
        if wait:
            rollout = client.deployments.wait(rollout, timeout=limit, progress=say)
    details(rollout_row(rollout), ROLLOUT, output)
    following = f"predict {chosen.name} -f ROWS.jsonl" if wait else f"rollout show {chosen.name} -w"
    suggest(f"holdtrue {following}", output)
