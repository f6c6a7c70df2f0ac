"""python -m holdtrue_trainer."""

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # read at grpc's import; what we fork becomes another program at once

from holdtrue_core.lifecycle import run

from holdtrue_trainer.app import APP

if __name__ == "__main__":
    run(APP)
