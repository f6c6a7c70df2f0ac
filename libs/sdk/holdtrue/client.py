"""One object for everything that a program may ask of the platform."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Self

from holdtrue import endpoints
from holdtrue.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from holdtrue.alerts import Alert, Alerts
    from holdtrue.datasets import Datasets
    from holdtrue.deployments import Deployments
    from holdtrue.labels import Labels
    from holdtrue.model import Model
    from holdtrue.models import Models
    from holdtrue.producer import Producer
    from holdtrue.runs import Runs

# ruff: noqa: PLC0415 - a program pays only for the parts that it uses


def connect(url: str | None = None) -> Client:
    """Return a client of the platform whose console is at `url`.

    By default that is `HOLDTRUE_URL`, or the platform that `holdtrue up` runs on this machine. Raises Unavailable.
    """
    return Client(Connection(endpoints.find(url)))


class Client:
    """The platform. Threads may share it; close it, or use it in a `with` statement."""

    def __init__(self, connection: Connection) -> None:
        """Use `connect` instead."""
        self.connection = connection

    @cached_property
    def datasets(self) -> Datasets:
        """Datasets and their versions."""
        from holdtrue.datasets import Datasets

        return Datasets(self.connection)

    @cached_property
    def models(self) -> Models:
        """Models and their versions."""
        from holdtrue.models import Models

        return Models(self.connection)

    @cached_property
    def runs(self) -> Runs:
        """Training runs."""
        from holdtrue.runs import Runs

        return Runs(self.connection, self.models)

    @cached_property
    def deployments(self) -> Deployments:
        """Deployments and rollouts."""
        from holdtrue.deployments import Deployments

        return Deployments(self.connection, self.models)

    @cached_property
    def labels(self) -> Labels:
        """Labels that the monitor judges at once; `producer` is the way for streams of them."""
        from holdtrue.labels import Labels

        return Labels(self.connection)

    @cached_property
    def _alerts(self) -> Alerts:
        from holdtrue.alerts import Alerts

        return Alerts(self.connection)

    def model(self, name: str) -> Model:
        """Return the model that serves under this name."""
        from holdtrue.model import Model

        return Model(name, self.connection)

    def producer(self, *, buffer_bytes: int = 32 << 20) -> Producer:
        """Return a producer of records and labels that holds at most `buffer_bytes` not yet acknowledged."""
        from holdtrue.producer import Producer

        return Producer(self.connection, self.datasets, buffer_bytes=buffer_bytes)

    def alerts(
        self,
        *,
        deployment: str = "",
        severity: str = "info",
        kind: str = "",
        since: str = "now",
        follow: bool = True,
    ) -> Iterator[Alert]:
        """Yield alerts of a deployment ("": all), of at least this severity, of kinds that begin with `kind`.

        `since` is "now", "beginning", or the `resume_token` of the last alert seen. The stream comes back by itself
        after a broken connection, where it was. Without `follow` all alerts are listed as they stand, oldest first.
        """
        return self._alerts.iterate(deployment, severity, kind, since, follow=follow)

    def close(self) -> None:
        """Close all connections."""
        self.connection.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()
