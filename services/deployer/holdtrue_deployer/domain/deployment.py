"""A deployment: its revisions, who is champion, and what may be rolled out or returned to."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  msgspec reads the annotations
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

from holdtrue_contracts.deployer.v1.deployments_pb2 import (
    ROLE_CHALLENGER,
    ROLE_CHAMPION,
    ROLE_STANDBY,
    DeploymentState,
    LogMode,
    Role,
)
from holdtrue_contracts.deployer.v1.deployments_pb2 import Revision as RevisionMessage

from holdtrue_deployer.domain.policy import Policy  # noqa: TC001  msgspec reads the annotations
from holdtrue_deployer.domain.rollout import Desired, Duty, Rollout, Share, State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

ROLLBACK_WINDOW = timedelta(hours=24)
"""So long after completion a critical alert leads back, and so long no second one does."""
SLOTS = 1 << 14
"""Slots of prediction ids in a tenant; none is used twice."""

_ROLES: Mapping[Duty, Role.ValueType] = {
    Duty.CHAMPION: ROLE_CHAMPION,
    Duty.CHALLENGER: ROLE_CHALLENGER,
    Duty.STANDBY: ROLE_STANDBY,
}


class NoTarget(Exception):
    """There is no version to return to; the text says why not, version by version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What of a model version is served. Digests are sha256, hexadecimal."""

    version: int
    manifest_digest: str
    artifact_digest: str
    kind: str
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A model version in a deployment."""

    revision: str
    slot: int
    artifact: Artifact
    completed_at: datetime | None = None
    """When it last became champion."""
    rolled_back: bool = False
    """Whether it was taken back: by a check, an alert or a person. Never the target of a way back."""

    @property
    def completed_seconds(self) -> float:
        """Unix time of the completion; 0 if it never completed."""
        return self.completed_at.timestamp() if self.completed_at else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Revisions by id; champion and standby are ids, empty if there is none."""

    deployment_id: str
    name: str
    model_id: str
    model_name: str
    policy: Policy
    log_mode: int
    id_key: int
    created_at: datetime
    generation: int = 0
    salt: str = ""
    champion: str = ""
    standby: str = ""
    """The champion before: warm until the next one takes its place, so that going back is a switch."""
    reversed_at: datetime | None = None
    """When an alert last started a way back."""
    shares: tuple[Share, ...] = ()
    revisions: Mapping[str, Revision] = field(default_factory=dict[str, Revision])

    def revision_of(self, version: int) -> Revision | None:
        """Return the revision of a model version, if it was ever rolled out here."""
        return next((r for r in self.revisions.values() if r.artifact.version == version), None)

    def version_of(self, revision: str) -> int:
        """Return the model version of a revision; 0 for none."""
        return self.revisions[revision].artifact.version if revision else 0

    def with_revision(self, revision: Revision) -> Deployment:
        """Return the deployment with a revision added or replaced."""
        return replace(self, revisions={**self.revisions, revision.revision: revision})

    def warm(self, revision: str) -> bool:
        """Whether replicas hold the revision already."""
        return any(share.revision == revision for share in self.shares)

    def desire(self, desired: Desired, salt: str) -> Deployment:
        """Return the deployment with a new desired state. The standby stays warm."""
        named = {share.revision for share in desired.shares}
        keep = self.standby and self.standby not in named
        standby = (Share(self.standby, Duty.STANDBY, 0),) if keep else ()
        return replace(self, generation=desired.generation, salt=salt, shares=(*desired.shares, *standby))

    def follow(self, rollout: Rollout, now: datetime) -> Deployment:
        """Return the deployment after a rollout went on: roles swap, what was taken back is marked."""
        target = self.revisions[rollout.to_revision]
        match rollout.state:
            case State.COMPLETED:
                crowned = replace(target, completed_at=now, rolled_back=False)
                return replace(self.with_revision(crowned), champion=target.revision, standby=rollout.from_revision)
            case State.ROLLING_BACK:
                return self.disown(target.revision)
            case _:
                return self

    def disown(self, revision: str) -> Deployment:
        """Return the deployment with a revision marked as taken back."""
        return self.with_revision(replace(self.revisions[revision], rolled_back=True))

    def target(self, version: int, alerting: Collection[str]) -> Revision:
        """Return the revision to go back to: this version, or the newest good one for 0.

        `alerting` are revisions with an open critical alert of performance or serving. Raises NoTarget with reasons.
        """
        past = [r for r in self.revisions.values() if r.revision != self.champion]
        asked = [r for r in past if version in (0, r.artifact.version)]
        good = [r for r in asked if not _unfit(r, alerting)]
        if good:
            return max(good, key=lambda r: r.completed_seconds)
        raise NoTarget(self._no_target(version, asked, alerting))

    def _no_target(self, version: int, asked: Iterable[Revision], alerting: Collection[str]) -> str:
        reasons = [f"version {r.artifact.version} {_unfit(r, alerting)}" for r in asked]
        if version and not reasons:
            reasons = [f"version {version} was never champion of deployment {self.name} or is champion now"]
        return "; ".join(reasons) or f"deployment {self.name} never had another champion"

    def may_reverse(self, revision: str, at: datetime, now: datetime) -> bool:
        """Whether an alert about a window that ended at this time starts a way back from the champion."""
        if not self.policy.auto_rollback or revision != self.champion:
            return False
        completed = self.revisions[revision].completed_at
        fresh = completed is not None and completed <= at <= completed + ROLLBACK_WINDOW
        return fresh and (self.reversed_at is None or now >= self.reversed_at + ROLLBACK_WINDOW)

    def candidate(self, approved: Iterable[Artifact]) -> Artifact | None:
        """Return the newest approved version that no rollout has tried, if it is newer than all that were."""
        tried = max((r.artifact.version for r in self.revisions.values()), default=0)
        return max((a for a in approved if a.version > tried), key=lambda a: a.version, default=None)

    def message(self) -> DeploymentState:
        """Return the whole desired state as it is published."""
        return DeploymentState(
            deployment_id=self.deployment_id,
            name=self.name,
            model_id=self.model_id,
            model_name=self.model_name,
            generation=self.generation,
            salt=self.salt,
            id_key=self.id_key,
            revisions=[self._served(share) for share in self.shares],
        )

    def _served(self, share: Share) -> RevisionMessage:
        revision = self.revisions[share.revision]
        artifact = revision.artifact
        return RevisionMessage(
            revision=revision.revision,
            slot=revision.slot,
            model_version=artifact.version,
            manifest_digest=artifact.manifest_digest,
            artifact_digest=artifact.artifact_digest,
            kind=artifact.kind,
            role=_ROLES[share.duty],
            weight=share.weight,
            threshold=artifact.threshold,
            log_mode=cast("LogMode.ValueType", self.log_mode),
        )


def _unfit(revision: Revision, alerting: Collection[str]) -> str:
    """Say why nobody goes back to a revision; empty if nothing speaks against it."""
    if revision.completed_at is None:
        return "never completed a rollout"
    if revision.rolled_back:
        return "was rolled back itself"
    if revision.revision in alerting:
        return "has an open critical alert"
    return ""
