"""What the monitor learns from others' events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.deployer.v1.deployments_pb2 import (
    ROLE_CHALLENGER,
    ROLE_CHAMPION,
    ROLE_SHADOW,
    DeploymentState,
)
from holdtrue_contracts.registry.v1.models_pb2 import ModelVersionApproved, ModelVersionValidated
from holdtrue_events.react import subscribes

from holdtrue_monitor.domain.alerts import Change
from holdtrue_monitor.domain.notices import resolved
from holdtrue_monitor.store.alerts import AlertStore
from holdtrue_monitor.store.catalog import CatalogStore

if TYPE_CHECKING:
    from holdtrue_contracts.codec import Event
    from holdtrue_events.outbox import Transaction

_SERVING = {ROLE_CHAMPION, ROLE_CHALLENGER, ROLE_SHADOW}


@subscribes(ModelVersionValidated)
async def on_model_version_validated(event: Event[ModelVersionValidated], tx: Transaction) -> None:
    """Know what the version is held against."""
    await CatalogStore(tx).put_version(event.data.model_version)


@subscribes(ModelVersionApproved)
async def on_model_version_approved(event: Event[ModelVersionApproved], tx: Transaction) -> None:
    """Know a version that a person approved although its gate did not decide."""
    await CatalogStore(tx).put_version(event.data.model_version)


@subscribes(DeploymentState)
async def on_deployment_state(event: Event[DeploymentState], tx: Transaction) -> None:
    """Know what serves; alerts about what serves no longer are over."""
    live = {r.revision: r.role in _SERVING for r in event.data.revisions}
    for revision in await CatalogStore(tx).put_deployment(event.data, live):
        store = AlertStore(tx)
        for subject, alert in await store.open_of(revision):
            over = resolved(alert, event.time)
            over.title = f"{alert.title}; the revision serves no longer"
            await store.put(over, Change.RESOLVED, subject, event.time)
