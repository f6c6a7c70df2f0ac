"""python -m holdtrue_monitor."""

from holdtrue_core.lifecycle import run

from holdtrue_monitor.app import APP

if __name__ == "__main__":
    run(APP)
