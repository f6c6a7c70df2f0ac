"""What the SDK itself reads of a rules file; the registry judges the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import yaml

from holdtrue.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Roles:
    """What columns are for: the label, the time, the one that says whom a row is about, those that are personal."""

    label: str = ""
    time: str = ""
    subject: str = ""
    personal: frozenset[str] = frozenset()


def roles(rules: str, given: Roles) -> Roles:
    """Return the roles, where not given as the rules name them. Raises InvalidArgument for what is no YAML."""
    if not rules:
        return given
    try:
        content: Any = yaml.safe_load(rules)
    except yaml.YAMLError as error:
        raise InvalidArgument(f"the rules cannot be used: expected YAML: {' '.join(str(error).split())}") from error
    named: dict[str, Any] = content if isinstance(content, dict) else {}  # type: ignore[assignment]
    return Roles(
        given.label or str(named.get("label", "")),
        given.time or str(named.get("time", "")),
        given.subject or str(named.get("subject", "")),
        given.personal | _personal(named.get("columns")),
    )


def _personal(columns: object) -> set[str]:
    rules = cast("dict[Any, Any]", columns) if isinstance(columns, dict) else {}
    marked = {
        str(name): cast("dict[Any, Any]", rule).get("pii") for name, rule in rules.items() if isinstance(rule, dict)
    }
    return {name for name, mark in marked.items() if mark is True}
