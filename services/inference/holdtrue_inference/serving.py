"""What is served: the routing table, which is replaced as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_inference.domain.routing import Deployment, RoutingTable

if TYPE_CHECKING:
    from holdtrue_inference.lane import Lane


class Serving:
    """Holds the routing table, which is replaced as a whole by one assignment."""

    def __init__(self) -> None:
        """Serve nothing yet."""
        self.table = RoutingTable["Lane"]({})
        self.draining = False

    def serve(self, deployment_id: str, deployment: Deployment[Lane] | None) -> None:
        """Put a deployment in the place of what had its id, or take it away. Raises ValueError if its name is taken."""
        others = {name: d for name, d in self.table.deployments.items() if d.deployment_id != deployment_id}
        if deployment is not None:
            if deployment.name in others:
                raise ValueError(
                    f"the name {deployment.name!r} belongs to deployment {others[deployment.name].deployment_id}"
                )
            others[deployment.name] = deployment
        self.table = RoutingTable(others)

    def record_failures(self) -> None:
        """Record all failures that were counted and not yet recorded."""
        for deployment in self.table.deployments.values():
            for lane in deployment.targets:
                lane.record_failures()
