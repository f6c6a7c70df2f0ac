"""`holdtrue datasets rules`."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from holdtrue.cli.arguments import MOST_INT
from holdtrue.cli.exits import UsageError
from holdtrue.cli.messages import plain
from holdtrue.cli.output import Output, details
from holdtrue.client import connect

if TYPE_CHECKING:
    from holdtrue_contracts.registry.v1.rules_pb2 import RuleSet

_RULES = ["number", "digest", "created_at", "reason"]


def rules(
    dataset: str,
    file: Path | None = None,
    /,
    *,
    reason: str = "",
    number: Annotated[int, Parameter(validator=Number(gte=0, lte=MOST_INT))] = 0,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    output: Output = "table",
) -> None:
    """Show the rules of a dataset, or put those of a file in force for what is ingested from now on.

    Without FILE it prints the rules file that is in force.

    Examples:
        holdtrue datasets rules payments > rules.yaml
        holdtrue datasets rules payments rules.yaml --dry-run
        holdtrue datasets rules payments rules.yaml --reason "refunds are negative"

    Args:
        dataset: Name of the dataset.
        file: Rules file, YAML.
        reason: Why, for the record; needed with FILE.
        number: Print the rules that once were in force under this number; 0: those that are.
        dry_run: Only check the file.
    """
    if file is None:
        with connect() as client:
            _print(client.datasets.rules(dataset, number), output)
        return
    if number:
        raise UsageError("--number: rules with a number are printed; leave FILE or --number out")
    if not reason and not dry_run:
        raise UsageError("--reason: say why the rules change, or try them by --dry-run")
    text = read_rules(file)
    with connect() as client:
        put = client.datasets.put_rules(dataset, text, reason=reason, dry_run=dry_run)
    details(plain(put), _RULES, output, name="digest")


def read_rules(file: Path) -> str:
    """Return the text of a rules file; raises UsageError."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(f"{file}: {reason}; give the path of a rules file") from error


def _print(found: RuleSet, output: Output) -> None:
    if output == "table":
        sys.stdout.write(found.rules if found.rules.endswith("\n") else f"{found.rules}\n")
        sys.stderr.write(f"rules number {found.number}, in force since {plain(found)['created_at']}: {found.reason}\n")
    else:
        details(plain(found), _RULES, output, name="digest")
