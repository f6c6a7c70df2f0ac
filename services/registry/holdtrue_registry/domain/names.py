"""Names that people give."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def name_problem(name: str) -> str:
    """Say what is wrong with the name of a dataset or model and what to do; empty if nothing."""
    if _NAME.fullmatch(name):
        return ""
    return f"use 1 to 128 letters, digits, dots, dashes or underscores, first a letter or digit; got {name[:200]!r}"
