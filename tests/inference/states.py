"""Desired states without real models."""

from __future__ import annotations

from holdtrue_contracts.deployer.v1.deployments_pb2 import DeploymentState, LogMode, Revision, Role

ID_KEY = 0x1234_5678_9ABC_DEF0


def revision(name: str = "r0", weight: int = 10_000, **fields: object) -> Revision:
    """A revision of a model of its own name; with weight 0 on standby."""
    made = Revision(
        revision=name,
        model_version=1,
        manifest_digest=f"manifest of {name}",
        artifact_digest=f"artifact of {name}",
        kind="onnx",
        role=Role.ROLE_CHAMPION if weight else Role.ROLE_STANDBY,
        weight=weight,
        threshold=0.5,
        log_mode=LogMode.LOG_MODE_ASYNC,
    )
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def state(generation: int, *revisions: Revision, name: str = "fraud") -> DeploymentState:
    """A desired state of these revisions."""
    return DeploymentState(
        deployment_id=f"id-of-{name}",
        name=name,
        model_id="m",
        generation=generation,
        salt="salt",
        id_key=ID_KEY,
        revisions=revisions,
    )
