"""`holdtrue alerts list | watch`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from holdtrue.cli.exits import Exit
from holdtrue.cli.output import Output, StreamOutput, show, show_one
from holdtrue.client import connect

if TYPE_CHECKING:
    from datetime import datetime

    from holdtrue.alerts import Alert

Severity = Literal["info", "warning", "critical"]
_COLUMNS = ["raised_at", "severity", "status", "kind", "deployment", "model_version", "title"]


def list_(
    *,
    deployment: str = "",
    severity: Severity = "info",
    all_: Annotated[bool, Parameter(name="--all", negative=())] = False,
    exit_code: Annotated[bool, Parameter(negative=())] = False,
    output: Output = "table",
) -> int:
    """List the alerts that are not over.

    Examples:
        holdtrue alerts list
        holdtrue alerts list --severity critical --exit-code

    Args:
        deployment: Only of this deployment.
        severity: Of at least this severity.
        all_: Also those that are over.
        exit_code: End with exit code 9 if there is any.
    """
    with connect() as client:
        found = client.alerts(deployment=deployment, severity=severity, follow=False)
        rows = [_row(alert) for alert in found if all_ or alert.status != "resolved"]
    show(rows, _COLUMNS, output, name="id", empty="no alerts" if all_ else "no alerts that are not over")
    return Exit.CONDITION if exit_code and rows else Exit.OK


def watch(
    *, deployment: str = "", severity: Severity = "info", since: str = "now", output: StreamOutput = "table"
) -> None:
    """Show alerts as they come, until Ctrl-C; the stream survives restarts of the monitor.

    Examples:
        holdtrue alerts watch
        holdtrue alerts watch --severity critical --since beginning -o ndjson

    Args:
        deployment: Only of this deployment.
        severity: Of at least this severity.
        since: now, beginning, or the resume_token of the last alert that was seen.
    """
    with connect() as client:
        for alert in client.alerts(deployment=deployment, severity=severity, since=since):
            if output == "table":
                _tell(alert)
            else:
                show_one(_row(alert), output, name="id")


def _tell(alert: Alert) -> None:
    name = f"{alert.deployment}@{alert.model_version}"
    sys.stdout.write(f"{_time(alert.window[1])}  {alert.change:<12}  {alert.severity:<8}  {name}  {alert.title}\n")
    sys.stdout.writelines(f"    {cause}\n" for cause in alert.causes[:3])
    sys.stdout.flush()


def _row(alert: Alert) -> dict[str, Any]:
    row = asdict(alert)
    row["window"] = [_time(time) for time in alert.window]
    row["raised_at"] = _time(alert.raised_at)
    row["resolved_at"] = _time(alert.resolved_at) if alert.resolved_at else None
    row["threshold"] = None if alert.threshold != alert.threshold else alert.threshold
    return row


def _time(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
