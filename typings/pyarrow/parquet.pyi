# Untyped, as in __init__.pyi.
# ruff: noqa: ANN401  untyped is what this file says
from typing import Any

def __getattr__(name: str) -> Any: ...
