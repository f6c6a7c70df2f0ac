"""What the registry does about others' events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState, Role
from holdtrue_contracts.trainer.v1.runs_pb2 import RunSucceeded
from holdtrue_events.subscriptions import subscribes

from holdtrue_registry.commands import register_run
from holdtrue_registry.domain.lineage import deployed_edge
from holdtrue_registry.store.deployments import DeploymentStore
from holdtrue_registry.store.lineage import LineageStore

if TYPE_CHECKING:
    from holdtrue_contracts.codec import Event
    from holdtrue_events.outbox import Transaction
    from holdtrue_events.subscriptions import AnyHandler
    from holdtrue_storage.blobs import Blobs


def handlers(blobs: Blobs) -> list[AnyHandler]:
    """Return a handler for each event; evidence of gates goes into the blobs."""

    @subscribes(RunSucceeded)
    async def on_run_succeeded(event: Event[RunSucceeded], tx: Transaction) -> None:
        """Register the candidate and judge it."""
        await register_run(tx, blobs, event.data)

    return [on_run_succeeded, on_deployment_state]


@subscribes(DeploymentState)
async def on_deployment_state(event: Event[DeploymentState], tx: Transaction) -> None:
    """Show which version plays which role; an older state than the known one changes nothing."""
    state = event.data
    if not await DeploymentStore(tx).replace(state, _roles(state)):
        return
    edges = [deployed_edge(state.model_name, r.model_version, state.name) for r in state.revisions]
    await LineageStore(tx).add(edges)


def _roles(state: DeploymentState) -> dict[int, str]:
    """Most important role of each model version; roles are numbered by importance."""
    if state.deleted:
        return {}
    least_first = sorted(state.revisions, key=lambda revision: revision.role, reverse=True)
    return {r.model_version: Role.Name(r.role).removeprefix("ROLE_").lower() for r in least_first}
