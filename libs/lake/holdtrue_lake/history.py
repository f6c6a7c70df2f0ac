"""A dataset's versions and what people do with them. Pure: whoever keeps versions stores what comes out.

A version is a watermark, not a snapshot: it names commits, is never changed, and costs nothing to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from holdtrue_lake.digest import version_digest
from holdtrue_lake.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

_NOTHING = Ranges()


class Status(StrEnum):
    """Whether a version may be used."""

    PUBLISHED = "published"
    SUSPECT = "suspect"
    RETRACTED = "retracted"


class Hold(StrEnum):
    """Why a version is pinned."""

    MODEL = "model"
    TAG = "tag"
    HOLD = "hold"


@dataclass(frozen=True)
class Version:
    """A version of a dataset.

    `offered` are the commits it is made of before those in `retracted` are taken out. Commits after `watermark` are
    new: the next version takes them in. `pins` are reasons with names: `(Hold.MODEL, "fraud/7")`. `erasure_epoch`
    is that of the last erasure that took rows out of it, which changed its digest.
    """

    number: int
    offered: Ranges
    retracted: Ranges
    watermark: int
    digest: str
    made_at: datetime
    status: Status = Status.PUBLISHED
    pins: frozenset[tuple[Hold, str]] = frozenset()
    erasure_epoch: int = 0

    @property
    def commits(self) -> Ranges:
        """Commits whose rows are in it: what `read_version` takes."""
        return self.offered - self.retracted


@dataclass(frozen=True)
class History:
    """All versions of a dataset that have not expired, oldest first; each verb returns the history after it.

    `digests` are the content digests of the table's commits, by number from 0 on without gaps. Verbs raise ValueError
    where what they are asked makes no sense, and LookupError for a version that is not there.
    """

    schema_id: str
    digests: tuple[str, ...] = ()
    versions: tuple[Version, ...] = ()
    transform: str = ""
    erasure_epoch: int = 0
    _last: int = field(default=0, repr=False)

    @property
    def newest(self) -> Version | None:
        """The version that is used by default."""
        return self.versions[-1] if self.versions else None

    def version(self, number: int) -> Version:
        """The version of that number."""
        for version in self.versions:
            if version.number == number:
                return version
        raise LookupError(f"there is no version {number}; there are {[version.number for version in self.versions]}")

    def add_commits(self, digests: Iterable[str]) -> History:
        """Know of more commits, by their digests in order. They are in no version yet."""
        return replace(self, digests=(*self.digests, *digests))

    def publish(self, now: datetime) -> History:
        """Close a version: the newest one's commits and all that came since. Without new commits nothing happens."""
        if not self._fresh():
            return self
        return self._add(self._offered() | self._fresh(), self._retracted(), now)

    def retract(self, commits: Ranges, now: datetime) -> History:
        """Take bad commits out: of the next version, which this makes, and all after it.

        Older versions with such commits stay readable as they are, with the status `RETRACTED`. What came since the
        newest version still waits for the next one.
        """
        unknown = commits - _up_to(len(self.digests) - 1)
        if unknown or not commits:
            raise ValueError(f"cannot retract commits {commits}: the table has no commits {unknown}")
        flagged = tuple(
            replace(version, status=Status.RETRACTED) if version.commits & commits else version
            for version in self.versions
        )
        retracted = self._retracted() | commits
        if self.newest is None:
            return self._add(self._fresh(), retracted, now)
        after = self._add(self.newest.offered, retracted, now, self.newest.watermark)
        return replace(after, versions=(*flagged, after.versions[-1]))

    def roll_back(self, number: int, now: datetime, *, reinstate: bool = False) -> History:
        """Make a version with the commits of an older one; those that came since are left out for good.

        What was retracted meanwhile stays out, unless `reinstate` asks for the older version exactly as it was.
        """
        old = self.version(number)
        retracted = old.retracted if reinstate else old.retracted | self._retracted()
        return self._add(old.offered, retracted, now)

    def replace(self, now: datetime) -> History:
        """Make a version of nothing but the commits that came since the newest one."""
        if not self._fresh():
            raise ValueError("nothing has come since the newest version: a version needs a commit to consist of")
        return self._add(self._fresh(), self._retracted(), now)

    def erase(self, digests: Mapping[int, str]) -> History:
        """Know that erasures have changed commits, by their new digests; versions with some of them change, too.

        Nobody can train again on exactly what such a version was: its digest and its `erasure_epoch` say so.
        """
        unknown = sorted(number for number in digests if not 0 <= number < len(self.digests))
        if unknown:
            raise ValueError(f"there are no commits {unknown}; the last is {len(self.digests) - 1}")
        if not digests:
            return self
        now = tuple(digests.get(number, digest) for number, digest in enumerate(self.digests))
        touched = Ranges.of((number, number) for number in digests)
        return replace(self, digests=now, erasure_epoch=self.erasure_epoch + 1).redigested(touched)

    def pin(self, number: int, reason: Hold, name: str) -> History:
        """Keep a version from expiring; several reasons may."""
        version = self.version(number)
        return self._with(replace(version, pins=version.pins | {(reason, name)}))

    def unpin(self, number: int, reason: Hold, name: str) -> History:
        """Withdraw a reason; the version may expire when none is left."""
        version = self.version(number)
        return self._with(replace(version, pins=version.pins - {(reason, name)}))

    def expire(self, before: datetime) -> tuple[History, Ranges]:
        """Forget versions made before a time, except pinned ones and the newest.

        Returns also the commits whose rows may go (`upkeep.drop_commits`), some perhaps once more: no version has
        them, and the version that left them out or forgot them is that old, too. No verb brings such a commit back.
        """
        kept = tuple(v for v in self.versions if v.pins or v is self.newest or v.made_at >= before)
        passed = max((version.watermark for version in self.versions if version.made_at < before), default=-1)
        return replace(self, versions=kept), _up_to(passed) - _covered(kept)

    def holding(self, commits: Ranges) -> list[Version]:
        """Versions that have rows of these commits: what a person asks before retracting them."""
        return [version for version in self.versions if version.commits & commits]

    def _fresh(self) -> Ranges:
        return _up_to(len(self.digests) - 1) - _up_to(self.newest.watermark if self.newest else -1)

    def _offered(self) -> Ranges:
        return self.newest.offered if self.newest else _NOTHING

    def _retracted(self) -> Ranges:
        return self.newest.retracted if self.newest else _NOTHING

    def _add(self, offered: Ranges, retracted: Ranges, now: datetime, watermark: int | None = None) -> History:
        number = self._last + 1
        seen = len(self.digests) - 1 if watermark is None else watermark
        epoch, digest = self.erasure_epoch, self._digest(offered - retracted)
        version = Version(number, offered, retracted, seen, digest, now, erasure_epoch=epoch)
        return replace(self, versions=(*self.versions, version), _last=number)

    def redigested(self, touched: Ranges) -> History:
        """Give versions with changed commits the digests that follow from these; `erase` does it."""
        versions = tuple(
            replace(version, digest=self._digest(version.commits), erasure_epoch=self.erasure_epoch)
            if version.commits & touched
            else version
            for version in self.versions
        )
        return replace(self, versions=versions)

    def _digest(self, commits: Ranges) -> str:
        contents = [self.digests[commit] for commit in commits.numbers()]
        return version_digest(contents, self.schema_id, self.transform, self.erasure_epoch)

    def _with(self, changed: Version) -> History:
        versions = tuple(changed if version.number == changed.number else version for version in self.versions)
        return replace(self, versions=versions)


def _covered(versions: Iterable[Version]) -> Ranges:
    return Ranges.of(span for version in versions for span in version.commits)


def _up_to(commit: int) -> Ranges:
    return Ranges.of([(0, commit)] if commit >= 0 else [])
