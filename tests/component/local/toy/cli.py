"""The commands of libs/local: `cli.py COMMAND ARG…`."""

from __future__ import annotations

import sys

from cyclopts import App
from holdtrue_local.commands import down, logs, status, up

if __name__ == "__main__":
    app = App(name="holdtrue")
    for module in (up, down, status, logs):
        name = module.__name__.rpartition(".")[2]
        app.command(getattr(module, name), name=name)
    sys.exit(app(sys.argv[1:]))
