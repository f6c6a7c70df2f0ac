"""Settings of the trainer."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - read by pydantic at run time

from holdtrue_core.settings import BlobSettings, DatabaseSettings, KafkaSettings, ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class TrainerSettings(ServiceSettings, DatabaseSettings, KafkaSettings, BlobSettings):
    """Read from HOLDTRUE_TRAINER_*."""

    model_config = SettingsConfigDict(env_prefix="HOLDTRUE_TRAINER_")

    grpc_port: int = Field(default=5002, ge=0, le=65535)
    """Port of the gRPC server."""
    metrics_port: int = Field(default=6002, ge=0, le=65535)
    """Port of the Prometheus metrics."""
    lake: Path
    """Folder of the datasets' tables, written by the registry."""
    concurrency: int = Field(default=1, ge=1, le=64)
    """Runs at the same time in this process."""
    lease_seconds: float = Field(default=30.0, ge=2)
    """How long a run belongs to a trainer that gives no sign of life."""
    memory_bytes: int = Field(default=4 << 30, ge=256 << 20)
    """Memory that a run may use, bytes."""
    wall_seconds: float = Field(default=3600.0, gt=0)
    """Time that a run may take."""
    file_bytes: int = Field(default=2 << 30, ge=1 << 20)
    """Size of any one file that a run may write."""
    processes: int = Field(default=32, ge=1)
    """Processes that a run may have at once."""
    dataset_wait_seconds: float = Field(default=5.0, ge=0, le=60)
    """How long an ordered run waits for the registry's word about a dataset version that is not known yet."""
    cool_down_seconds: float = Field(default=6 * 3600.0, ge=0)
    """Cool-down of a model that has no policy of its own."""
    runs_per_day: int = Field(default=4, ge=0)
    """Runs a day that may start by themselves, for a model that has no policy of its own."""
    min_new_labels: int = Field(default=500, ge=0)
    """Labelled rows since the first bad window that retraining needs, for a model that has no policy of its own."""
    last_rows: int = Field(default=100_000, ge=0)
    """Rows used where no concept drift is reported, for a model that has no policy of its own; 0: all."""
