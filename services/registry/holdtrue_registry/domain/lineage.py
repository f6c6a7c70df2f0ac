"""What came of what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdtrue_contracts.registry.v1.models_pb2 import ModelVersion
    from holdtrue_contracts.trainer.v1.runs_pb2 import RunSpec


DATASET_VERSION = "dataset_version"
MODEL_VERSION = "model_version"


@dataclass(frozen=True)
class Node:
    """A thing: its kind and its id within the kind."""

    kind: str
    id: str


@dataclass(frozen=True)
class Edge:
    """`target` came of `source`."""

    source: Node
    target: Node
    relation: str


def model_version_node(name: str, version: int) -> Node:
    """Return the node of a model version, for example `fraud@3`."""
    return Node(MODEL_VERSION, f"{name}@{version}")


def dataset_version_node(name: str, version: int) -> Node:
    """Return the node of a dataset version, for example `payments@3`."""
    return Node(DATASET_VERSION, f"{name}@{version}")


def run_edges(spec: RunSpec, version: ModelVersion) -> list[Edge]:
    """Return the edges around a run: the dataset version and alerts before it, the model version after it."""
    run = Node("run", spec.run_id)
    dataset = dataset_version_node(spec.dataset_name, spec.dataset_version)
    return [
        Edge(dataset, run, "trained_on"),
        *(Edge(Node("alert", alert), run, "triggered") for alert in spec.alert_ids),
        Edge(run, model_version_node(version.name, version.version), "produced"),
    ]


def deployed_edge(model: str, version: int, deployment: str) -> Edge:
    """Return the edge from a model version to a deployment that holds it."""
    return Edge(model_version_node(model, version), Node("deployment", deployment), "deployed_in")
