"""python -m holdtrue_console."""

from holdtrue_core.lifecycle import run

from holdtrue_console.app import APP

if __name__ == "__main__":
    run(APP)
