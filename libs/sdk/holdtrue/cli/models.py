"""`holdtrue models list | show`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from holdtrue.cli.arguments import Selector
from holdtrue.cli.messages import plain, time_text
from holdtrue.cli.output import Output, details
from holdtrue.cli.output import show as show_rows
from holdtrue.client import connect
from holdtrue.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_contracts.registry.v1.model_service_pb2 import ModelVersionView

    from holdtrue.client import Client

_LIST = ["name", "latest_version", "min_precision", "created"]
_COLUMNS = ["name", "state", "role", "dataset", "gate", "registered"]
VERSION = ["name", "state", "role", "gate", "dataset", "run", "seconds", "threshold", "digest", "registered"]
"""What people see of a version."""


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
    show_rows(rows, _LIST, output, empty="no models yet; train one: holdtrue train MODEL --data DATASET")


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
            name = dataset_names(client)
            rows = [version_row(view, name) for view in client.models.versions(chosen.name)]
            empty = f"{chosen.name} has no version yet; train one: holdtrue train {chosen.name} --data DATASET"
            show_rows(rows, _COLUMNS, output, empty=empty)
        else:
            view = client.models.version(chosen.name, chosen.model_version(client))
            details(version_row(view, dataset_names(client)), VERSION, output)


def dataset_names(client: Client) -> Callable[[str], str]:
    """Return a function that gives the name of a dataset's id, or the id where nobody knows it."""

    @cache
    def name(dataset_id: str) -> str:
        try:
            return client.datasets.get(dataset_id).name
        except NotFound:
            return dataset_id

    return name


def version_row(view: ModelVersionView, dataset_name: Callable[[str], str]) -> dict[str, Any]:
    """Return what there is to show of a version."""
    version, words = view.model_version, plain(view)
    return {
        "name": f"{version.name}@{version.version}",
        "state": words["state"],
        "role": view.role,
        "reason": view.reason,
        "gate": "; ".join(f"{check['check']} {check['outcome']}: {check['reason']}" for check in words["checks"]),
        "dataset": f"{dataset_name(version.dataset_id)}@{version.dataset_version}" if version.dataset_id else "",
        "run": version.run_id,
        "threshold": version.threshold,
        "digest": version.manifest_digest,
        "registered": time_text(view.registered_at),
    }
