"""The SDK of holdtrue: `import holdtrue as ht`.

    client = ht.connect()                     # HOLDTRUE_URL, or the platform on this machine
    model = ht.Model("fraud-check")           # applications
    with client.producer() as out: ...        # producers of records and labels
    for alert in client.alerts(): ...         # whoever must know

Importing it costs next to nothing: what a program uses is loaded when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdtrue.alerts import Alert
    from holdtrue.client import Client, connect
    from holdtrue.errors import (
        AlreadyExists,
        Conflict,
        DeadlineExceeded,
        FailedPrecondition,
        GateFailed,
        HoldtrueError,
        Internal,
        InvalidArgument,
        NotFound,
        PermissionDenied,
        ResourceExhausted,
        RunFailed,
        Unavailable,
    )
    from holdtrue.model import Model
    from holdtrue.prediction import Prediction, Predictions
    from holdtrue.producer import Producer, ProducerStats

__all__ = [
    "Alert",
    "AlreadyExists",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "FailedPrecondition",
    "GateFailed",
    "HoldtrueError",
    "Internal",
    "InvalidArgument",
    "Model",
    "NotFound",
    "PermissionDenied",
    "Prediction",
    "Predictions",
    "Producer",
    "ProducerStats",
    "ResourceExhausted",
    "RunFailed",
    "Unavailable",
    "connect",
]

_MODULES = {
    "Alert": "alerts",
    "Client": "client",
    "connect": "client",
    "Model": "model",
    "Prediction": "prediction",
    "Predictions": "prediction",
    "Producer": "producer",
    "ProducerStats": "producer",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
