"""Settings of the registry."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  pydantic reads the annotation

from holdtrue_core.settings import BlobSettings, DatabaseSettings, KafkaSettings, ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class RegistrySettings(ServiceSettings, DatabaseSettings, KafkaSettings, BlobSettings):
    """What the registry reads from the environment."""

    model_config = SettingsConfigDict(env_prefix="HOLDTRUE_REGISTRY_")

    grpc_port: int = Field(default=5001, ge=0, le=65535)
    """Port of the gRPC server; 0: any free one."""
    http_port: int = Field(default=5000, ge=0, le=65535)
    """Port of the HTTP server; 0: any free one."""
    metrics_port: int = Field(default=6001, ge=0, le=65535)
    """Port of the Prometheus metrics; 0: any free one."""
    lake: Path
    """Folder of the datasets' tables."""
    version_rows: int = Field(default=10_000, ge=1)
    """Rows after which a dataset version closes, where the dataset does not say."""
    version_seconds: float = Field(default=0, ge=0)
    """Seconds after which a version with new rows closes; 0: never by time."""
    ingest_rows: int = Field(default=10_000, ge=1)
    """Rows that one commit gathers at most."""
    ingest_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    """Bytes that one commit gathers at most."""
    ingest_seconds: float = Field(default=0.5, ge=0)
    """Seconds that one commit gathers at most, and the delay that it adds."""
    master_key: Path | None = None
    """File of the key that protects the keys of persons; made at the first start. Default: `subjects.key` beside the
    lake's folder. Back it up apart from the database: with both, what was erased could be read again."""
    erasure_seconds: float = Field(default=3600, gt=0)
    """Seconds between two rounds in which all persons who wait are erased together."""
    erasure_patience_seconds: float = Field(default=600, ge=0)
    """Seconds that an erasure waits for readers of a table before they have to read again."""
    upkeep_seconds: float = Field(default=3600, gt=0)
    """Seconds between two rounds in which small files of tables become larger ones."""
    expire_grace_seconds: float = Field(default=3600, ge=0)
    """Seconds that the rows of a version that has expired stay at least: somebody may be reading it."""
    publish_seconds: float = Field(default=60, gt=0)
    """Seconds that PublishVersion waits for batches at most; a shorter deadline of the caller wins."""
