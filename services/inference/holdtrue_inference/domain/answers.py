"""What a model's probabilities mean: score, class, label, and the tail of each prediction's id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from holdtrue_contracts import prediction_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_contracts.prediction_id import ScoreMap
    from holdtrue_models.signature import Signature
    from numpy.typing import NDArray

_CLASSES = 64  # classes that fit into a prediction id


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to n rows: probabilities [n, K], scores [n, k] (binary: k = 1), class and score code of each row."""

    probabilities: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int16]
    codes: NDArray[np.uint16]


class Interpreter:
    """Turns the probabilities of one model into answers and labels."""

    def __init__(self, signature: Signature, threshold: float, score_map: ScoreMap) -> None:
        """Take the threshold from which a binary model flags.

        Raises ValueError for a model that a prediction id cannot describe.
        """
        if not 2 <= len(signature.classes) <= _CLASSES:  # noqa: PLR2004  a classifier has two classes or more
            raise ValueError(f"a served classifier has 2 to {_CLASSES} classes, this one has {len(signature.classes)}")
        self._binary = signature.task == "binary"
        self._threshold = np.float64(threshold)
        self._score_map: ScoreMap = score_map
        labels = list(signature.classes)
        self._positive = labels.index(signature.positive_class) if signature.positive_class is not None else 0
        if self._binary:
            labels = [labels[1 - self._positive], labels[self._positive]]
        numbers = all(isinstance(label, int) for label in labels)
        self.labels: NDArray[Any] = np.array(labels, np.int64 if numbers else object)
        """Label of each class as the answer numbers them: a binary model's 1 is the positive one."""

    def read(self, probabilities: NDArray[np.float32]) -> Answer:
        """Judge rows; a binary row is class 1, flagged, if its score is at least the threshold."""
        if self._binary:
            column = probabilities[:, self._positive]
            classes = (column >= self._threshold).astype(np.int16)
            return Answer(probabilities, column[:, None], classes, self._codes(column))
        classes = probabilities.argmax(axis=1).astype(np.int16)
        best = probabilities.max(axis=1)
        return Answer(probabilities, probabilities, classes, self._codes(best))

    def _codes(self, scores: NDArray[np.float32]) -> NDArray[np.uint16]:
        return prediction_id.score_code(scores, self._score_map)


def tails(
    requests: Sequence[bytes], counts: Sequence[int], slot: int, answer: Answer, id_key: int
) -> NDArray[np.uint64]:
    """The tail of each row of these requests' answers, which stand one after the other."""
    segments = np.zeros(len(answer.classes), np.uint8)
    if len(requests) == 1:
        return prediction_id.tails(requests[0], counts[0], slot, segments, answer.classes, answer.codes, id_key)
    ids = np.frombuffer(b"".join(requests), np.uint8).reshape(-1, 16)
    rows = np.array(counts)
    return prediction_id.tails_of_requests(ids, rows, slot, segments, answer.classes, answer.codes, id_key)
