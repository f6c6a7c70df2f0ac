"""Models and their versions, as the registry knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1 import model_service_pb2
from holdtrue_contracts.registry.v1.model_service_pb2 import (
    CreateModelRequest,
    GetModelRequest,
    GetModelVersionRequest,
    ListModelsRequest,
    ListModelVersionsRequest,
    Model,
    ModelPolicy,
    ModelVersionView,
)
from holdtrue_contracts.registry.v1.model_service_pb2_grpc import ModelServiceStub

from holdtrue.errors import AlreadyExists, FailedPrecondition, NotFound
from holdtrue.paging import pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdtrue.connection import Connection


class Models:
    """The registry's models. What it returns are the platform's own messages."""

    def __init__(self, connection: Connection) -> None:
        """Use `Client.models` instead."""
        self._call = connection.call
        self._stub = ModelServiceStub(connection.channel("registry", model_service_pb2.DESCRIPTOR))

    def list(self) -> Iterator[Model]:
        """Yield all models by name."""
        return pages(
            lambda token: self._call(self._stub.ListModels, ListModelsRequest(page_token=token)),
            lambda page: page.models,
        )

    def get(self, model: str) -> Model:
        """Return a model by name or id; raises NotFound."""
        return self._call(self._stub.GetModel, GetModelRequest(model=model)).model

    def create(self, name: str, *, min_precision: float = 0.0) -> Model:
        """Return the model of that name, made if there is none.

        Raises FailedPrecondition if it exists with another floor of precision than one that is asked for.
        """
        try:
            model = self.get(name)
        except NotFound:
            return self._create(name, min_precision)
        if min_precision and model.policy.min_precision != min_precision:
            raise FailedPrecondition(
                f"model {name} exists with a floor of precision of {model.policy.min_precision:g}, "
                f"not {min_precision:g}; leave the floor out, or choose another name"
            )
        return model

    def version(self, model: str, version: int = 0) -> ModelVersionView:
        """Return a version with its state and checks; 0: the newest. Raises NotFound."""
        return self._call(self._stub.GetModelVersion, GetModelVersionRequest(model=model, version=version)).version

    def of_run(self, model: str, run_id: str) -> ModelVersionView | None:
        """Return the version that a run made, or None as long as the registry has not heard of it."""
        request = GetModelVersionRequest(model=model, run_id=run_id)
        try:
            return self._call(self._stub.GetModelVersion, request).version
        except NotFound:
            return None

    def versions(self, model: str) -> Iterator[ModelVersionView]:
        """Yield the versions of a model, newest first; raises NotFound."""
        return pages(
            lambda token: self._call(
                self._stub.ListModelVersions, ListModelVersionsRequest(model=model, page_token=token)
            ),
            lambda page: page.versions,
        )

    def _create(self, name: str, min_precision: float) -> Model:
        request = CreateModelRequest(name=name, policy=ModelPolicy(min_precision=min_precision))
        try:
            return self._call(self._stub.CreateModel, request).model
        except AlreadyExists:  # somebody was quicker
            return self.create(name, min_precision=min_precision)
