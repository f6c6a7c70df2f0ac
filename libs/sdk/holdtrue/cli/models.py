"""`holdtrue models list | show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdtrue.cli.arguments import Selector
from holdtrue.cli.messages import plain, time_text
from holdtrue.cli.output import Output, details
from holdtrue.cli.output import show as show_rows
from holdtrue.client import connect

if TYPE_CHECKING:
    from holdtrue_contracts.registry.v1.model_service_pb2 import ModelVersionView

_COLUMNS = ["name", "state", "role", "dataset", "gate", "registered"]


def list_(*, output: Output = "table") -> None:
    """List the models by name.

    Examples:
        holdtrue models list
    """
    with connect() as client:
        rows = [
            plain(model) | {"min_precision": model.policy.min_precision or None, "created": time_text(model.created_at)}
            for model in client.models.list()
        ]
    show_rows(rows, ["name", "latest_version", "min_precision", "created"], output)


def show(model: str, /, *, output: Output = "table") -> None:
    """Show the versions of a model, newest first, or one of them with its checks.

    Examples:
        holdtrue models show tumour-check
        holdtrue models show tumour-check@champion -o json

    Args:
        model: NAME for all versions; NAME@VERSION, NAME@latest or NAME@champion for one.
    """
    chosen = Selector.parse(model)
    with connect() as client:
        if chosen.version is None:
            show_rows([version_row(view) for view in client.models.versions(chosen.name)], _COLUMNS, output)
        else:
            details(version_row(client.models.version(chosen.name, chosen.model_version(client))), output)


def version_row(view: ModelVersionView) -> dict[str, Any]:
    """Return what there is to show of a version."""
    version, words = view.model_version, plain(view)
    return {
        "name": f"{version.name}@{version.version}",
        "state": words["state"],
        "role": view.role,
        "reason": view.reason,
        "gate": "; ".join(f"{check['check']} {check['outcome']}: {check['reason']}" for check in words["checks"]),
        "dataset": f"{version.dataset_id}@{version.dataset_version}" if version.dataset_id else "",
        "run": version.run_id,
        "threshold": version.threshold,
        "digest": version.manifest_digest,
        "registered": time_text(view.registered_at),
    }
