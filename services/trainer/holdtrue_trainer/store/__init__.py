"""What the trainer keeps in PostgreSQL. One class per aggregate, no business rules."""

from holdtrue_trainer.store.projections import DatasetStore, DeploymentStore
from holdtrue_trainer.store.retraining import RetrainingStore
from holdtrue_trainer.store.runs import RunStore
from holdtrue_trainer.store.uploads import UploadStore

__all__ = ["DatasetStore", "DeploymentStore", "RetrainingStore", "RunStore", "UploadStore"]
