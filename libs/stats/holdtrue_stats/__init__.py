"""Statistics that say how good a model is and how sure we are.

Every public name can be imported from here, and is loaded with its module when it is first used: who only folds counts
does not pay for the tests. `__init__.pyi` says where each one is.
"""

import ast
from importlib import import_module
from pathlib import Path


def _homes() -> dict[str, str]:
    """Return the module of each name."""
    body = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    found = ((alias.name, node.module) for node in body if isinstance(node, ast.ImportFrom) for alias in node.names)
    return {name: module for name, module in found if module}


_HOME = _homes()
__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll] - pyright reads the stub


def __getattr__(name: str) -> object:
    """Load a name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(_HOME[name]), name))


def __dir__() -> list[str]:
    """Return every public name."""
    return __all__
