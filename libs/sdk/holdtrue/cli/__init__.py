"""The `holdtrue` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the arguments name, and exit."""
    if sys.argv[1:] == ["--version"]:
        from importlib.metadata import version  # noqa: PLC0415  the quick way: nothing else is loaded

        print(f"holdtrue {version('holdtrue')}")  # noqa: T201
        sys.exit(0)
    from holdtrue.cli.app import run  # noqa: PLC0415

    sys.exit(run(sys.argv[1:]))
