"""The world around the platform: applications that predict, producers that tell what turned out to be true.

The ledger is what the world knows by itself: it is filled by the SDK's answers alone and never asks the platform.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holdtrue.errors import HoldtrueError
from holdtrue_contracts.prediction_id import parse
from holdtrue_local.demo.stream import Phase, Stream
from holdtrue_local.demo.world import row

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from holdtrue import Model, Prediction, Producer

LABEL = "fraud"
TIME = "at"
APPLICATIONS = 2
_CALL_ROWS = 8
_CALL_SECONDS = 5.0
_PAUSE_SECONDS = 0.08
_MOST_DELAY_SECONDS = 3.0
_BAD_SHARE = 0.04


@dataclass(frozen=True)
class Failure:
    """A call that was not answered: seconds since the epoch, rows, why."""

    began: float
    ended: float
    rows: int
    error: str


@dataclass(frozen=True)
class Counts:
    """What is known of predictions: of the flagged ones with a label `tp` are right, of the others `tn`."""

    rows: int
    flagged: int
    labelled: int
    labelled_flagged: int
    positive: int
    tp: int
    tn: int


@dataclass
class Ledger:
    """What was acknowledged. Records are numbered; their time is the number, in seconds after `epoch`."""

    epoch: int = field(default_factory=lambda: int(time.time()) - 30 * 86_400)
    predictions: dict[str, int] = field(default_factory=dict[str, int])
    """Model version by prediction id."""
    labels: dict[str, int] = field(default_factory=dict[str, int])
    good: list[int] = field(default_factory=list[int])
    """Numbers of records that fit the schema."""
    bad: list[int] = field(default_factory=list[int])
    """Numbers of records that do not."""
    failures: list[Failure] = field(default_factory=list[Failure])

    @property
    def records(self) -> int:
        return len(self.good) + len(self.bad)

    def counts(self, ids: Iterable[str]) -> Counts:
        """Count these predictions as the monitor should."""
        cells: Counter[tuple[bool, int | None]] = Counter(
            (parse(name).tail.class_ == 1, self.labels.get(name)) for name in ids
        )
        tp, fp, fn, tn = cells[True, 1], cells[True, 0], cells[False, 1], cells[False, 0]
        return Counts(
            rows=cells.total(),
            flagged=tp + fp + cells[True, None],
            labelled=tp + fp + fn + tn,
            labelled_flagged=tp + fp,
            positive=tp + fn,
            tp=tp,
            tn=tn,
        )


@dataclass(frozen=True)
class _Truth:
    """What will be known of a prediction: when (monotonic seconds), its id, its label, its row."""

    at: float
    prediction_id: str
    label: int
    values: dict[str, float]


class Traffic:
    """Calls, labels and records of several threads."""

    def __init__(self, seed: int, model: Model, producer: Producer, dataset: str) -> None:
        """Prepare; nothing is sent yet."""
        self.ledger = Ledger()
        self._model, self._producer, self._dataset = model, producer, dataset
        self._chance = random.Random(seed)  # noqa: S311  no secret
        self._stream = Stream(seed)
        self._lock = threading.Lock()  # of the stream
        self._ended = threading.Event()
        self._truths: queue.Queue[_Truth | None] = queue.Queue()  # None: the end

    def offer_history(self, rows: int) -> None:
        """Offer labelled rows from before the first model."""
        past = self._stream.take(rows, Phase.STABLE)
        for x, y in zip(past.x.tolist(), past.y.tolist(), strict=True):
            self._offer({**row(x), LABEL: y})

    @contextmanager
    def flowing(self) -> Generator[None]:
        """Let applications call while the block runs; at its end everything offered is acknowledged."""
        with ThreadPoolExecutor(APPLICATIONS + 1, thread_name_prefix="traffic") as threads:
            applications = [threads.submit(self._apply) for _ in range(APPLICATIONS)]
            telling = threads.submit(self._tell)
            try:
                yield
            finally:
                self._ended.set()
                for application in applications:
                    application.result()
                self._truths.put(None)
                telling.result()
        self._producer.flush()

    def _apply(self) -> None:
        while not self._ended.is_set():
            with self._lock:
                rows = self._stream.take(_CALL_ROWS, Phase.STABLE)
                delays = self._stream.label_delays(len(rows), 0.5).clip(max=_MOST_DELAY_SECONDS).tolist()
            named = [row(x) for x in rows.x.tolist()]
            answers = self._ask(named)
            now = time.monotonic()
            for answer, values, y, delay in zip(answers, named, rows.y.tolist(), delays, strict=False):
                self._truths.put(_Truth(now + delay, answer.id, y, values))
            self._ended.wait(_PAUSE_SECONDS)

    def _ask(self, rows: list[dict[str, float]]) -> list[Prediction]:
        """Call until there is an answer, or the end; each try is a new prediction."""
        while not self._ended.is_set():
            began = time.time()
            try:
                answers = self._model.predict(rows, deadline=_CALL_SECONDS)
            except HoldtrueError as error:
                self.ledger.failures.append(Failure(began, time.time(), len(rows), repr(error)))
                time.sleep(_PAUSE_SECONDS)
            else:
                self.ledger.predictions.update((answer.id, answer.version) for answer in answers)
                return answers
        return []

    def _tell(self) -> None:
        """Say each truth when it is due, those of one call out of order; records, too."""
        waiting: list[_Truth] = []
        ended = False
        while waiting or not ended:
            ended = self._take(waiting) or ended
            now = time.monotonic()
            due = [truth for truth in waiting if truth.at <= now]
            waiting = [truth for truth in waiting if truth.at > now]
            for truth in due:
                self._producer.label(truth.prediction_id, truth.label)
                self.ledger.labels[truth.prediction_id] = truth.label
                self._offer({**truth.values, LABEL: truth.label})

    def _take(self, waiting: list[_Truth]) -> bool:
        """Wait a moment for a new truth; True when there will be no more."""
        try:
            truth = self._truths.get(timeout=0.05)
        except queue.Empty:
            return False
        if truth is not None:
            waiting.append(truth)
        return truth is None

    def _offer(self, values: dict[str, Any]) -> None:
        """Offer the next record, sometimes one that the schema refuses."""
        number = self.ledger.records
        bad = self._chance.random() < _BAD_SHARE
        if bad:
            values = {**values, "amount": "a lot"} if number % 2 else {"hour": values["hour"]}
        self._producer.event(self._dataset, values, at=self.ledger.epoch + number)
        (self.ledger.bad if bad else self.ledger.good).append(number)
