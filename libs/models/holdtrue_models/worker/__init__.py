"""The limited process: it loads what nobody trusts yet, says how that went, and answers batches by shared memory."""

from holdtrue_models.worker.limits import Limits
from holdtrue_models.worker.messages import Report
from holdtrue_models.worker.process import Worker, try_out
from holdtrue_models.worker.supervised import Restarts, WorkerModel

__all__ = ["Limits", "Report", "Restarts", "Worker", "WorkerModel", "try_out"]
