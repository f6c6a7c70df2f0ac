"""Asks the services for what the page shows. One that does not answer leaves a gap, never an error page."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import grpc
from holdtrue_contracts.deployer.v1 import deployment_service_pb2 as deployer
from holdtrue_contracts.deployer.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from holdtrue_contracts.monitor.v1 import monitor_service_pb2 as monitor
from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import AlertServiceStub, MonitoringServiceStub
from holdtrue_contracts.registry.v1 import model_service_pb2 as registry
from holdtrue_contracts.registry.v1.model_service_pb2_grpc import ModelServiceStub
from holdtrue_core.channels import channel
from holdtrue_core.health import check_health

from holdtrue_console.domain import build, view
from holdtrue_console.domain.words import word

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from holdtrue_contracts.monitor.v1.evaluations_pb2 import WindowEvaluated

    from holdtrue_console.rates import EventRates
    from holdtrue_console.settings import Addresses

T = TypeVar("T")

_SECONDS = 3.0
"""A service that takes longer is a gap."""
_VERSIONS, _WINDOWS, _ALERTS = 20, 400, 50


@dataclass(frozen=True, slots=True)
class _Told:
    """What the services have said; empty where one did not answer."""

    models: tuple[view.Model, ...]
    deployments: tuple[deployer.Deployment, ...]
    health: tuple[monitor.RevisionHealth, ...]
    alerts: tuple[view.Alert, ...]


class Sources:
    """Channels to the services, and the latest overview, renewed when somebody asks and it is older than `refresh`."""

    def __init__(self, addresses: Addresses, rates: EventRates, version: str, refresh_seconds: float) -> None:
        """Open nothing: channels connect when first used. Use inside the event loop."""
        self._addresses = addresses
        self._rates = rates
        self._version = version
        self._refresh = refresh_seconds
        self._lock = asyncio.Lock()
        self._latest: view.Overview | None = None
        self._read_at = 0.0
        reads = (registry.DESCRIPTOR, deployer.DESCRIPTOR, monitor.DESCRIPTOR)
        self._channels = {
            name: channel(grpc_of(addresses, name), *reads) for name in ("registry", "deployer", "monitor")
        }
        self._models = ModelServiceStub(self._channels["registry"])
        self._deployments = DeploymentServiceStub(self._channels["deployer"])
        self._monitoring = MonitoringServiceStub(self._channels["monitor"])
        self._alerts = AlertServiceStub(self._channels["monitor"])

    async def overview(self) -> view.Overview:
        """Return the state of everything, at most `refresh` seconds old; all who ask at once share one answer."""
        async with self._lock:
            if self._latest is None or time.monotonic() - self._read_at >= self._refresh:
                self._latest = await self._gather()
                self._read_at = time.monotonic()
            return self._latest

    async def close(self) -> None:
        """Close the channels."""
        await asyncio.gather(*(each.close() for each in self._channels.values()))

    async def _gather(self) -> view.Overview:
        gaps: list[str] = []
        services, models, deployments, health, alerts = await asyncio.gather(
            self._services(),
            _or_gap(self._all_models(), (), "registry", gaps),
            _or_gap(self._all_deployments(), (), "deployer", gaps),
            _or_gap(self._all_health(), (), "monitor", gaps),
            _or_gap(self._all_alerts(), (), "monitor", gaps),
        )
        told = _Told(models, deployments, health, alerts)
        shown = await asyncio.gather(*(self._deployment(item, told, gaps) for item in deployments))
        if self._rates.gap:
            gaps.append(self._rates.gap)
        return view.Overview(
            at=time.time(),
            version=self._version,
            services=services,
            models=models,
            deployments=tuple(shown),
            alerts=alerts,
            rates=self._rates.latest(),
            gaps=tuple(dict.fromkeys(gaps)),
        )

    async def _services(self) -> tuple[view.Service, ...]:
        asked = [(name, addresses["grpc"]) for name, addresses in self._addresses.items() if "grpc" in addresses]
        answers = await asyncio.gather(*(check_health(address, 1.0) for _, address in asked))
        states = (word("serving" if answer else "unreachable") for answer in answers)
        return tuple(view.Service(name, at, state) for (name, at), state in zip(asked, states, strict=True))

    async def _all_models(self) -> tuple[view.Model, ...]:
        found = await self._models.ListModels(registry.ListModelsRequest(), timeout=_SECONDS)
        return tuple(await asyncio.gather(*(self._model(item) for item in found.models)))

    async def _model(self, item: registry.Model) -> view.Model:
        request = registry.ListModelVersionsRequest(model=item.model_id, page_size=_VERSIONS)
        found = await self._models.ListModelVersions(request, timeout=_SECONDS)
        return build.model(item, found.versions)

    async def _all_deployments(self) -> tuple[deployer.Deployment, ...]:
        found = await self._deployments.ListDeployments(deployer.ListDeploymentsRequest(), timeout=_SECONDS)
        return tuple(found.deployments)

    async def _all_health(self) -> tuple[monitor.RevisionHealth, ...]:
        found = await self._monitoring.GetHealth(monitor.GetHealthRequest(), timeout=_SECONDS)
        return tuple(found.revisions)

    async def _all_alerts(self) -> tuple[view.Alert, ...]:
        request = monitor.ListAlertsRequest(include_resolved=True, page_size=_ALERTS)
        found = await self._alerts.ListAlerts(request, timeout=_SECONDS)
        return tuple(build.alert(item) for item in found.alerts)

    async def _deployment(self, item: deployer.Deployment, told: _Told, gaps: list[str]) -> view.Deployment:
        name = item.state.name
        changes, windows = await asyncio.gather(
            _or_gap(self._changes(name), (), "deployer", gaps),
            _or_gap(self._windows(name), (), "monitor", gaps),
        )
        gates: Mapping[str, float | None] = {model.name: model.min_precision for model in told.models}
        alerts = sum(alert.deployment == name and alert.resolved_at is None for alert in told.alerts)
        gate = gates.get(item.state.model_name)
        return build.deployment(item, changes, windows, told.health, gate=gate, alerts=alerts)

    async def _changes(self, name: str) -> tuple[deployer.RolloutChange, ...]:
        request = deployer.ListRolloutsRequest(deployment=name, page_size=1)
        found = await self._deployments.ListRollouts(request, timeout=_SECONDS)
        return tuple(found.rollouts[0].changes) if found.rollouts else ()

    async def _windows(self, name: str) -> tuple[WindowEvaluated, ...]:
        request = monitor.ListWindowsRequest(deployment=name, page_size=_WINDOWS)
        found = await self._monitoring.ListWindows(request, timeout=_SECONDS)
        return tuple(found.windows)


def grpc_of(addresses: Addresses, service: str) -> str:
    """Return the gRPC address of a service; one that is not run is asked at a place where nothing answers."""
    return addresses.get(service, {}).get("grpc", "127.0.0.1:1")


async def _or_gap(question: Awaitable[T], nothing: T, service: str, gaps: list[str]) -> T:
    try:
        return await question
    except grpc.aio.AioRpcError as error:
        gaps.append(f"{service}: {error.code().name.lower()} {error.details() or ''}".strip())
        return nothing
