"""Telling labels to the monitor itself, which judges them at once; `Producer.label` is the way for streams of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.monitor.v1 import monitor_service_pb2
from holdtrue_contracts.monitor.v1.monitor_service_pb2 import Label, RecordLabelsRequest
from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import LabelServiceStub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue.connection import Connection

MOST_LABELS = 10_000
"""Labels of one call, at most."""


class Labels:
    """The monitor's door for labels."""

    def __init__(self, connection: Connection) -> None:
        """Use `Client.labels` instead."""
        self._call = connection.call
        self._stub = LabelServiceStub(connection.channel("monitor", monitor_service_pb2.DESCRIPTOR))

    def record(self, labels: Sequence[Label]) -> int:
        """Record labels, all or none, and return their number: then Kafka has them.

        Raises InvalidArgument, whose violations name each wrong one as `labels[i]`, or Unavailable: repeat it then, a
        label that comes twice counts once.
        """
        return self._call(self._stub.RecordLabels, RecordLabelsRequest(labels=labels)).recorded
