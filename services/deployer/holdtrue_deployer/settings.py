"""Settings of the deployer."""

from __future__ import annotations

from holdtrue_core.settings import DatabaseSettings, KafkaSettings, ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class DeployerSettings(ServiceSettings, DatabaseSettings, KafkaSettings):
    """Read from HOLDTRUE_DEPLOYER_*."""

    model_config = SettingsConfigDict(env_prefix="HOLDTRUE_DEPLOYER_")

    grpc_port: int = Field(default=5003, ge=0, le=65535)
    """Port of the gRPC server."""
    metrics_port: int = Field(default=6003, ge=0, le=65535)
    """Port of the Prometheus metrics."""
    poll_seconds: float = Field(default=0.5, gt=0, le=60)
    """How often open rollouts are looked at."""
    version_wait_seconds: float = Field(default=5.0, ge=0, le=60)
    """How long an ordered rollout waits for the registry's word about a version that is not known yet."""
