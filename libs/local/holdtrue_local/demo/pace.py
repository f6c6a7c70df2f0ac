"""How quick the demonstration is. Only settings differ from production: clock and code are the same."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """The settings that the demonstration shortens, and how long each phase lasts."""

    window_seconds: float
    """Length of an evaluation window (production: 60)."""
    rows_per_second: int
    """Rows sent to the model each second."""
    request_rows: int
    """Rows of one gRPC call."""
    history_rows: int
    """Labelled rows that exist before the first model."""
    stable_windows: int
    """Windows of the stable phase."""
    covariate_windows: int
    """Windows of the covariate shift."""
    recovered_windows: int
    """Windows watched after the roll-out."""
    label_median_seconds: float
    """Median delay of a label (production: hours)."""
    canary_steps: tuple[int, ...]
    """Shares of the traffic in basis points (production: 500, 2500, 5000)."""
    step_seconds: float
    """Least time of a canary step (production: 600)."""
    step_rows: int
    """Rows that the challenger must have answered in a step."""
    bake_seconds: float
    """Time that the challenger is watched at 100 % (production: 1,800)."""
    cool_down_seconds: float
    """Time between two runs of a model (production: 6 h)."""
    min_new_labels: int
    """Labelled rows of the new world that a retraining run waits for."""

    @property
    def window_ns(self) -> int:
        """Length of a window in nanoseconds."""
        return round(self.window_seconds * 1e9)

    def shortened(self) -> dict[str, str]:
        """Return what is shortened, in words, for the first line of the story."""
        steps = " and ".join(f"{step / 100:g} %" for step in self.canary_steps)
        return {
            "window": f"{self.window_seconds:g} s",
            "canary": f"{steps}, {self.step_seconds:g} s each",
            "bake": f"{self.bake_seconds:g} s",
            "cool-down": f"{self.cool_down_seconds:g} s",
            "label delay": f"{self.label_median_seconds:g} s median",
        }

    def service_settings(self) -> dict[str, str]:
        """Environment of the services that shortens their settings."""
        return {
            "HOLDTRUE_MONITOR_WINDOW_SECONDS": f"{self.window_seconds:g}",
            "HOLDTRUE_MONITOR_CLOSE_AFTER_SECONDS": f"{self.window_seconds / 2:g}",
            "HOLDTRUE_MONITOR_RESTATE_SECONDS": f"{self.window_seconds / 4:g}",
            "HOLDTRUE_MONITOR_COMMIT_SECONDS": "0.25",
            "HOLDTRUE_MONITOR_ROLLING_WINDOWS": "3",
            "HOLDTRUE_REGISTRY_VERSION_SECONDS": f"{self.window_seconds:g}",
            "HOLDTRUE_INFERENCE_HEARTBEAT_SECONDS": "1",
        }


FULL = Pace(
    window_seconds=5,
    rows_per_second=800,
    request_rows=8,
    history_rows=40_000,
    stable_windows=6,
    covariate_windows=3,
    recovered_windows=3,
    label_median_seconds=1.5,
    canary_steps=(2_500, 5_000),
    step_seconds=6,
    step_rows=500,
    bake_seconds=6,
    cool_down_seconds=5,
    min_new_labels=4_000,
)
FAST = Pace(
    window_seconds=2,
    rows_per_second=800,
    request_rows=8,
    history_rows=15_000,
    stable_windows=5,
    covariate_windows=3,
    recovered_windows=3,
    label_median_seconds=0.5,
    canary_steps=(5_000,),
    step_seconds=2,
    step_rows=200,
    bake_seconds=2,
    cool_down_seconds=2,
    min_new_labels=2_000,
)
