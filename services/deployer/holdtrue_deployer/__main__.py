"""python -m holdtrue_deployer."""

from holdtrue_core.lifecycle import run

from holdtrue_deployer.app import APP

if __name__ == "__main__":
    run(APP)
