"""`holdtrue datasets add | list | show`."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from holdtrue.cli.arguments import Selector
from holdtrue.cli.messages import moment, plain, time_text
from holdtrue.cli.output import Output, details, suggest
from holdtrue.cli.output import show as show_rows
from holdtrue.cli.progress import progress
from holdtrue.cli.rules import read_rules
from holdtrue.cli.suspicion import show_broken
from holdtrue.client import connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished

    from holdtrue.datasets import Added

_LIST = ["name", "latest_version", "accepted", "quarantined", "label", "created"]
_VERSIONS = ["name", "rows", "status", "from", "to"]
_ADDED = ["name", "rows", "quarantined", "columns", "label", "time"]
_VERSION = ["name", "status", "rows", "label", "time", "from", "to", "digest", "columns", "cleared"]


def add(
    dataset: str,
    file: Path,
    /,
    *,
    label: str = "",
    time: str = "",
    text: Annotated[list[str] | None, Parameter(negative=())] = None,
    subject: str = "",
    personal: Annotated[list[str] | None, Parameter(negative=())] = None,
    rules: Path | None = None,
    output: Output = "table",
) -> None:
    """Add the rows of a file to a dataset and publish the version that holds them.

    A dataset that does not exist yet gets the file's columns. The same file again gives the same version.

    Examples:
        holdtrue datasets add tumours tumours.csv --label malignant
        holdtrue datasets add payments jan.csv --label fraud --time booked_at
        holdtrue datasets add payments jan.parquet --rules rules.yaml
        holdtrue datasets add orders jan.csv --label returned --subject email --personal phone

    Args:
        dataset: Name of the dataset.
        file: CSV file with a header, JSON lines (.jsonl, .ndjson, .json) or Parquet (.parquet).
        label: Column that models learn to predict; needed for a new dataset.
        time: Column with the time of the event, Unix seconds or ISO 8601.
        text: Column to take as text though its values look like numbers; may be given several times.
        subject: Column that says which person a row is about; it is encrypted under a key of that person, who can be
            erased later: see holdtrue datasets erase-subject. For a new dataset.
        personal: Further column to encrypt with it; may be given several times.
        rules: Rules file of a new dataset: what its records must be like besides their types.
    """
    content = read_rules(rules) if rules else ""
    with connect() as client, progress(dataset) as say:
        added = client.datasets.add(
            dataset,
            file,
            label=label,
            time=time,
            text=text or (),
            subject=subject,
            personal=personal or (),
            rules=content,
            progress=say,
        )
    _warn(added)
    row = _version(added.version) | {"quarantined": sum(added.quarantined.values())}
    details(row if output != "table" else row | _kinds(added.version.schema.columns), _ADDED, output)
    suggest(f"holdtrue train MODEL --data {dataset}", output)


def list_(*, output: Output = "table") -> None:
    """List the datasets by name.

    Examples:
        holdtrue datasets list
        holdtrue datasets list -o json
    """
    with connect() as client:
        rows = [
            plain(dataset) | {"label": dataset.schema.label, "created": time_text(dataset.created_at)}
            for dataset in client.datasets.list()
        ]
    show_rows(rows, _LIST, output, empty="no datasets yet; make one: holdtrue datasets add NAME FILE --label COLUMN")


def show(dataset: str, /, *, output: Output = "table") -> None:
    """Show the versions of a dataset, newest first, or one of them.

    Examples:
        holdtrue datasets show tumours
        holdtrue datasets show tumours@1 -o json

    Args:
        dataset: NAME for all versions, NAME@VERSION or NAME@latest for one.
    """
    chosen = Selector.parse(dataset)
    with connect() as client:
        if chosen.version is None:
            rows = [_version(version) for version in client.datasets.versions(chosen.name)]
            show_rows(rows, _VERSIONS, output, empty=f"{chosen.name} has no version yet")
        else:
            version = client.datasets.version(chosen.name, chosen.dataset_version())
            row = _version(version)
            details(row if output != "table" else row | _named(version.schema.columns), _VERSION, output)
            if output == "table":
                show_broken(version)


def _version(version: DatasetVersionPublished) -> dict[str, Any]:
    return plain(version) | {
        "name": f"{version.name}@{version.version}",
        "label": version.schema.label,
        "time": version.schema.time,
        "from": moment(version.from_ns),
        "to": moment(version.to_ns),
    }


def _kinds(columns: Sequence[ColumnSpec]) -> dict[str, str]:
    """Return, for people, how many columns there are of each type."""
    dtypes = [column.dtype for column in columns]
    return {"columns": ", ".join(f"{dtypes.count(dtype)} {dtype}" for dtype in dict.fromkeys(dtypes))}


def _named(columns: Sequence[ColumnSpec]) -> dict[str, str]:
    """Return, for people, all columns with their types."""
    return {"columns": ", ".join(f"{column.name} {column.dtype}" for column in columns)}


def _warn(added: Added) -> None:
    refused = sum(added.quarantined.values())
    if added.version.broken:
        name = f"{added.version.name}@{added.version.version}"
        sys.stderr.write(f"! {name} is not as expected and trains nothing until somebody has looked at it\n")
        sys.stderr.writelines(
            f"  {each.rule}: expected {each.expected}, got {each.got}\n" for each in added.version.broken[:5]
        )
        sys.stderr.write(f"→ see all: holdtrue datasets show {name}\n")
    if refused:
        sys.stderr.write(f"! {refused} of {added.offered} rows were refused and are in quarantine\n")
        sys.stderr.writelines(f"  {example}\n" for example in added.examples[:5])
        sys.stderr.write(f"→ see all: holdtrue data rejects {added.version.name}\n")
