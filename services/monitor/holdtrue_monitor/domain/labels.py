"""Labels: which one counts, and where. The same labels in any order, any number of times, end in the same counts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from holdtrue_contracts.columns import MalformedColumn, unpack, unpack_texts
from holdtrue_contracts.monitor.v1.labels_pb2 import LabelsObserved
from holdtrue_contracts.prediction_id import PredictionId, external_id_problem, parse, time_ns

from holdtrue_monitor.domain.buckets import Labelled, Place

MOST_LABELS = 100_000
"""Labels of one record, at most."""
LATEST_NS = 4_102_444_800 * 1_000_000_000
"""Begin of the year 2100."""


class Malformed(ValueError):
    """The record contradicts itself; the text says how."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label as it came. One of the ids is empty; `value` 0, 1, or nan for withdrawn."""

    prediction_id: str
    external_id: str
    value: float
    revision: int
    observed_ns: int
    event_id: str

    @property
    def order(self) -> tuple[int, int, str, float]:
        """The greatest wins; the value decides only between labels that one event repeats."""
        return self.revision, self.observed_ns, self.event_id, -1.0 if math.isnan(self.value) else self.value


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a label of a prediction counts: the decision and the score bin are in the prediction id."""

    place: Place
    class_: int
    bin: int


def read(record: LabelsObserved, event_id: str) -> tuple[list[Label], list[str]]:
    """Return the usable labels of a record and what is wrong with each of the others; raises Malformed."""
    try:
        labels = list(_read(record, event_id))
    except MalformedColumn as error:
        raise Malformed(str(error)) from error
    faults = [fault(label) for label in labels]
    good = [label for label, text in zip(labels, faults, strict=True) if not text]
    return good, [f"label {i}: {text}" for i, text in enumerate(faults) if text]


def fault(label: Label) -> str:
    """Return what is wrong with a label, empty if nothing."""
    if bool(label.prediction_id) == bool(label.external_id):
        return "give a prediction id or an external id, one of them"
    if not (math.isnan(label.value) or label.value in {0.0, 1.0}):
        return f"the label of a binary model is 0 or 1, got {label.value:g}"
    if label.revision < 0:
        return f"the revision is 0 or higher, got {label.revision}"
    if label.prediction_id:
        return _id_fault(label.prediction_id)
    problem = external_id_problem(label.external_id)
    return problem and f"external id: {problem}"


def winner(a: Label | None, b: Label) -> Label:
    """Return the label that counts."""
    return b if a is None or b.order > a.order else a


def cell(prediction: PredictionId, revision: str, window_ns: int) -> Cell:
    """Return where labels of a prediction count."""
    time = time_ns(prediction.request_id)
    place = Place(revision, prediction.tail.segment, time - time % window_ns)
    return Cell(place, prediction.tail.class_, prediction.tail.code >> 2)


def count(labelled: Labelled, where: Cell, value: float, sign: int) -> None:
    """Add (sign 1) or take away (-1) one label; a withdrawn one counts nowhere."""
    if not math.isnan(value):
        labelled.cells[where.class_, int(value), where.bin] += sign


def _id_fault(prediction_id: str) -> str:
    try:
        prediction = parse(prediction_id)
    except ValueError as error:
        return str(error)
    if time_ns(prediction.request_id) >= LATEST_NS:
        return f"the time in prediction id {prediction_id} is beyond the year 2100"
    return "" if prediction.tail.class_ <= 1 else f"prediction id {prediction_id} is not of a binary model"


def _read(record: LabelsObserved, event_id: str) -> Iterator[Label]:
    values = unpack(record.labels, np.float64, 1)
    n = len(values)
    if n > MOST_LABELS:
        raise Malformed(f"labels: at most {MOST_LABELS} in a record, got {n}")
    revisions = _optional(record, "revisions", n)
    observed = _optional(record, "observed_ns", n)
    columns = unpack_texts(record.prediction_ids), unpack_texts(record.external_ids)
    predictions, externals = (names or [""] * n for names in columns)
    if {len(predictions), len(externals), len(revisions), len(observed)} - {n}:
        raise Malformed(
            f"labels: {n}, prediction_ids: {len(predictions)}, external_ids: {len(externals)}, "
            f"revisions: {len(revisions)}, observed_ns: {len(observed)}; all must have one entry a label"
        )
    for row in zip(predictions, externals, values.tolist(), revisions, observed, strict=True):
        yield Label(*row, event_id)


def _optional(record: LabelsObserved, name: str, n: int) -> list[int]:
    if not record.HasField(name):  # pyright: ignore[reportArgumentType] - one of the message's own names
        return [0] * n
    return unpack(getattr(record, name), np.int64, 1).tolist()
