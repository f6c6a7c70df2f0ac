"""python -m holdtrue_trainer."""

from holdtrue_core.lifecycle import run

from holdtrue_trainer.app import APP

if __name__ == "__main__":
    run(APP)
