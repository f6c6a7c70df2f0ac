"""Settings of the inference service."""

from __future__ import annotations

import socket
from pathlib import Path  # noqa: TC003  pydantic reads the annotations

from holdtrue_core.settings import BlobSettings, KafkaSettings, ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from holdtrue_inference.store.spool import Limits


class InferenceSettings(ServiceSettings, KafkaSettings, BlobSettings):
    """All that can be set."""

    model_config = SettingsConfigDict(env_prefix="HOLDTRUE_INFERENCE_")

    grpc_port: int = Field(default=8001, ge=0, le=65535)
    """Port of the Open Inference Protocol over gRPC; 0: any free one."""
    metrics_port: int = Field(default=8002, ge=0, le=65535)
    """Port of the Prometheus metrics; 0: any free one."""
    cache: Path
    """Folder for artifacts, the last desired states, and the spool; one process alone may use it."""
    heartbeat_seconds: float = Field(default=5.0, gt=0)
    """Seconds between two announcements of what this replica serves."""
    flush_seconds: float = Field(default=0.02, gt=0, le=10)
    """Seconds that recorded predictions wait for company on their way to Kafka."""
    sync_seconds: float = Field(default=0.1, gt=0)
    """Seconds of recorded predictions that a loss of power may cost."""
    ack_timeout_seconds: float = Field(default=0.25, gt=0)
    """Seconds that a reply waits for Kafka where the deployment asks for it; then the synced spool must do."""
    drain_seconds: float = Field(default=10.0, ge=0)
    """Seconds that a stop waits for Kafka to take what is in the spool; the rest goes at the next start."""
    spool_bytes: int = Field(default=8 << 30, gt=0)
    """Bytes that may wait for Kafka; beyond, requests that have to be recorded are refused."""
    spool_seconds: float = Field(default=24 * 3600.0, gt=0)
    """Seconds that Kafka may be away; beyond, requests that have to be recorded are refused."""

    @property
    def replica_id(self) -> str:
        """Name of this replica among all."""
        return f"{socket.gethostname()}/{self.instance_id or '0'}"

    @property
    def limits(self) -> Limits:
        """What the spool may hold."""
        return Limits(cap_bytes=self.spool_bytes, cap_seconds=self.spool_seconds)
