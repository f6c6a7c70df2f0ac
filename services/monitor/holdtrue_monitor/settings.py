"""Settings of the monitor."""

from __future__ import annotations

from holdtrue_core.settings import BlobSettings, DatabaseSettings, KafkaSettings, ServiceSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict

_SECOND = 1_000_000_000


class MonitorSettings(ServiceSettings, DatabaseSettings, KafkaSettings, BlobSettings):
    """Read from HOLDTRUE_MONITOR_*."""

    model_config = SettingsConfigDict(env_prefix="HOLDTRUE_MONITOR_")

    grpc_port: int = Field(default=5004, ge=0, le=65535)
    """Port of the gRPC server."""
    metrics_port: int = Field(default=6004, ge=0, le=65535)
    """Port of the Prometheus metrics."""
    window_seconds: float = Field(default=60.0, ge=0.1, le=86_400)
    """Length of a window."""
    close_after_seconds: float = Field(default=10.0, ge=0, le=86_400)
    """A window closes so long after its end at the latest, whatever is still on its way."""
    rolling_windows: int = Field(default=60, ge=1, le=10_000)
    """Windows that the health of a revision covers."""
    restate_seconds: float = Field(default=60.0, ge=0, le=86_400)
    """A closed window is restated with later labels at most this often."""
    commit_seconds: float = Field(default=1.0, ge=0.02, le=30)
    """How often what was folded is committed."""
    commit_records: int = Field(default=128, ge=1, le=10_000)
    """Records that are committed together, at most."""
    evaluate_seconds: float = Field(default=0.5, ge=0.02, le=60)
    """How often windows are looked at."""
    drift_rows: int = Field(default=1000, ge=100, le=10_000_000)
    """Rows that drift is judged on: windows are added up until there are so many."""
    drift_budget: float = Field(default=1.0, gt=0, le=1000)
    """False pages of drift per revision and month that are tolerated."""
    least_labels: int = Field(default=20, ge=1, le=1_000_000)
    """Labelled flagged rows of a window that its realised precision needs to be judged."""
    allowed_drop: float = Field(default=0.1, gt=0, lt=1)
    """Allowed loss of precision against the hold-out, where the model's policy names no floor."""
    severe_drop: float = Field(default=0.1, gt=0, lt=1)
    """So far below the floor one window is enough for an alert."""
    error_rate: float = Field(default=0.01, gt=0, lt=1)
    """Share of failed requests that is tolerated."""

    @property
    def window_ns(self) -> int:
        """Length of a window in nanoseconds."""
        return round(self.window_seconds * _SECOND)

    @property
    def close_after_ns(self) -> int:
        """Delay of closing in nanoseconds."""
        return round(self.close_after_seconds * _SECOND)
