"""Settings of the console."""

from __future__ import annotations

from holdtrue_core.settings import KafkaSettings, ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict

Addresses = dict[str, dict[str, str]]

_DEFAULT: Addresses = {
    "registry": {"grpc": "127.0.0.1:5001", "http": "127.0.0.1:5000"},
    "trainer": {"grpc": "127.0.0.1:5002"},
    "deployer": {"grpc": "127.0.0.1:5003"},
    "monitor": {"grpc": "127.0.0.1:5004"},
    "inference": {"grpc": "127.0.0.1:8001"},
    "console": {"http": "127.0.0.1:8080"},
}


class ConsoleSettings(ServiceSettings, KafkaSettings):
    """Read from HOLDTRUE_CONSOLE_*."""

    model_config = SettingsConfigDict(env_prefix="HOLDTRUE_CONSOLE_")

    http_port: int = Field(default=8080, ge=0, le=65535)
    """Port of the page."""
    metrics_port: int = Field(default=9080, ge=0, le=65535)
    """Port of the Prometheus metrics."""
    services: Addresses = _DEFAULT
    """Addresses of all services, by name and protocol, as JSON; told to clients at /.well-known/holdtrue."""
    refresh_seconds: float = Field(default=1.0, gt=0, le=60)
    """How old the shown state may get while somebody looks."""
