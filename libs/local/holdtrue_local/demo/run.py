"""Run the demonstration: bring the platform up, tell the story, hold every figure against the truth."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable  # noqa: TC003 - read by the dataclass
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import holdtrue
from holdtrue_contracts.common.v1.measures_pb2 import MeasureKind, Outcome
from holdtrue_contracts.deployer.v1.rollouts_pb2 import RolloutState

from holdtrue_local.platform import Options, Platform

from . import recorded
from .desk import Desk, NotHappenedError
from .report import AlertReport, PhaseReport, PredictionReport, Report, RolloutReport, VersionReport
from .story import MODEL, Story, measure, moment

if TYPE_CHECKING:
    from pathlib import Path

    from holdtrue_contracts.monitor.v1.monitor_service_pb2 import AlertNotification

    from .ledger import Chapter
    from .pace import Pace

_CLOSE_ENOUGH = 0.05
"""How near precision must come to the stable phase's after the roll-out."""
_PROMPT_WINDOWS = 3
"""Windows after the change within which the alert must be raised."""


@dataclass(frozen=True)
class Audience:
    """To whom the demonstration speaks."""

    say: Callable[[str], None]
    """Takes the story, line by line."""
    show: Callable[[Report], None]
    """Takes the report as soon as it is there."""
    stays: bool
    """Whether the platform is left up until interrupted."""


async def demonstrate(pace: Pace, seed: int, data: Path, audience: Audience) -> bool:
    """Run the whole demonstration on a new platform in ``data``; return whether the loop closed.

    Raises:
        StartError: the platform does not start.
        NotHappenedError: the story did not get as far as a report.
        AioRpcError: a service refused what the story needs.
    """
    say = audience.say
    began = time.monotonic()
    options = Options(data=data, free_ports=True, settings=pace.service_settings())
    platform = Platform(options, lambda name, text: say(f"start      {name} {text}"))
    try:
        await platform.start()
        say(f"console    http://{platform.endpoints['services']['console']['http']}")
        report = await _round(pace, seed, platform.endpoints, say, began)
        audience.show(report)
        if audience.stays:
            say(f"waiting    the platform stays up on {data}; Ctrl-C ends it")
            await asyncio.Event().wait()
        return report.closed_loop
    finally:
        await platform.stop()


async def _round(pace: Pace, seed: int, endpoints: dict[str, Any], say: Callable[[str], None], began: float) -> Report:
    addresses = {name: where["grpc"] for name, where in endpoints["services"].items() if "grpc" in where}
    desk = Desk(addresses)
    with holdtrue.connect(f"http://{endpoints['services']['console']['http']}") as client:
        story = Story(pace, seed, client, desk, say)
        open_ends: list[str] = []
        try:
            await story.tell()
        except NotHappenedError as error:
            open_ends.append(str(error))
        say("counting   reading predictions.v1 from its start")
        report = await _Reporter(pace, story, desk).report(
            endpoints["kafka"], open_ends, time.monotonic() - began, seed
        )
    await desk.close()
    return report


class _Reporter:
    """Turns a told story into a report."""

    def __init__(self, pace: Pace, story: Story, desk: Desk) -> None:
        self._pace, self._story, self._desk = pace, story, desk

    async def report(self, kafka: str, open_ends: list[str], seconds: float, seed: int) -> Report:
        if not hasattr(self._story, "world"):
            raise NotHappenedError("; ".join(open_ends))
        phases = [await self._phase(chapter) for chapter in self._story.world.ledger.chapters]
        predictions = await self._predictions(kafka)
        ends = [*open_ends, *self._missing(phases, predictions)]
        return Report(
            closed_loop=not ends,
            open_ends=ends,
            seconds=round(seconds, 1),
            seed=seed,
            phases=phases,
            alerts=self._alerts(),
            versions=await self._versions(),
            rollouts=await self._rollouts(),
            predictions=predictions,
            quarantine=self._story.quarantine,
        )

    async def _phase(self, chapter: Chapter) -> PhaseReport:
        health = await self._desk.figures(self._story.model, chapter.from_ns, chapter.to_ns)
        estimated = measure(health, MeasureKind.MEASURE_KIND_ESTIMATED)
        realised = measure(health, MeasureKind.MEASURE_KIND_REALISED)
        return PhaseReport(
            name=chapter.name,
            from_=moment(chapter.from_ns),
            to=moment(chapter.to_ns),
            predictions=len(chapter.ids),
            true_precision=chapter.true_precision(),
            estimated_precision=estimated.value,
            estimated_low=estimated.lower,
            estimated_high=estimated.upper,
            realised_precision=realised.value,
            realised_low=realised.lower,
            realised_high=realised.upper,
            realised_n=realised.n,
            label_completeness=health.label_completeness if health else math.nan,
        )

    async def _predictions(self, kafka: str) -> PredictionReport:
        ledger = self._story.world.ledger
        found = await recorded.read(kafka)
        acknowledged = ledger.ids()
        return PredictionReport(
            sent=ledger.sent,
            answered=ledger.answered,
            failed=len(ledger.errors),
            in_kafka=len(found.ids),
            lost=len(acknowledged - found.ids),
            duplicated=found.duplicated,
        )

    def _alerts(self) -> list[AlertReport]:
        heard = [n for _, n in self._desk.heard.notifications]
        ends = {n.alert.alert_id: n.alert.resolved_at for n in heard if n.change == "resolved"}
        return [self._alert(n, ends) for n in heard if n.change == "raised"]

    def _alert(self, notification: AlertNotification, ends: dict[str, Any]) -> AlertReport:
        alert = notification.alert
        resolved = ends.get(alert.alert_id)
        return AlertReport(
            id=alert.alert_id,
            kind=alert.kind,
            model=MODEL,
            version=alert.model_version,
            raised_at=alert.raised_at.ToJsonString(),
            windows_after_change=self._windows_after_change(alert.to_ns),
            resolved_at=resolved.ToJsonString() if resolved else None,
        )

    def _windows_after_change(self, to_ns: int) -> int | None:
        """Windows between the last change of the world before ``to_ns`` and ``to_ns``."""
        chapters = self._story.world.ledger.chapters[1:3]
        starts = [chapter.from_ns for chapter in chapters if chapter.from_ns < to_ns]
        return round((to_ns - max(starts)) / self._pace.window_ns) if starts else None

    async def _versions(self) -> list[VersionReport]:
        views = await self._desk.versions(self._story.model)
        return [
            VersionReport(
                model=MODEL,
                version=view.model_version.version,
                dataset_version=view.model_version.dataset_version,
                gate=", ".join(f"{check.check} {Outcome.Name(check.outcome)[8:].lower()}" for check in view.checks),
            )
            for view in views
        ]

    async def _rollouts(self) -> list[RolloutReport]:
        histories = await self._desk.rollouts(self._story.model)
        return [
            RolloutReport(
                id=history.rollout.rollout_id,
                version=history.rollout.to_version,
                state=RolloutState.Name(history.rollout.state)[14:].lower(),
                steps=[change.rollout.weight / 100 for change in history.changes],
            )
            for history in reversed(histories)
        ]

    def _missing(self, phases: list[PhaseReport], predictions: PredictionReport) -> list[str]:
        """Say in words what a closed loop lacks."""
        ends: list[str] = []
        if predictions.lost or predictions.duplicated or predictions.failed:
            ends.append(
                f"{predictions.lost} predictions lost, {predictions.duplicated} duplicated, {predictions.failed} failed"
            )
        if not self._story.quarantine.complete:
            ends.append(str(self._story.quarantine))
        prompt = [
            alert.windows_after_change
            for alert in self._alerts()
            if alert.kind == "performance.realised" and self._after_change(alert)
        ]
        if not prompt or (prompt[0] or math.inf) > _PROMPT_WINDOWS:
            ends.append(f"no alert on realised precision within {_PROMPT_WINDOWS} windows after the concept changed")
        by_name = {phase.name: phase for phase in phases}
        if "recovered" not in by_name:
            ends.append("precision did not recover: no new version is in full service")
        elif by_name["stable"].realised_precision - by_name["recovered"].realised_precision > _CLOSE_ENOUGH:
            ends.append("precision did not recover to within 0.05 of the stable phase")
        return ends

    def _after_change(self, alert: AlertReport) -> bool:
        return bool(self._story.changed_ns) and alert.raised_at > moment(self._story.changed_ns)
