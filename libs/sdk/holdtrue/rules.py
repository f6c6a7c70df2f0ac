"""What the SDK itself reads of a rules file; the registry judges the rest."""

from __future__ import annotations

from typing import Any

import yaml

from holdtrue.errors import InvalidArgument


def roles(rules: str, label: str, time: str) -> tuple[str, str]:
    """Return label and time, where not given as the rules name them. Raises InvalidArgument for what is no YAML."""
    if not rules:
        return label, time
    try:
        content: Any = yaml.safe_load(rules)
    except yaml.YAMLError as error:
        raise InvalidArgument(f"the rules cannot be used: expected YAML: {' '.join(str(error).split())}") from error
    named: dict[str, Any] = content if isinstance(content, dict) else {}  # type: ignore[assignment]
    return label or str(named.get("label", "")), time or str(named.get("time", ""))
