"""What a model answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one row."""

    id: str
    """Names the prediction: by it a label is told later."""
    label: int | str
    """The class; for a binary model the positive one if the score reaches the threshold."""
    score: float
    """Probability of the positive class (binary) or of the predicted class."""
    probabilities: tuple[float, ...]
    """Probability of each class, in the order of the model's classes."""
    version: int
    """Number of the model version that answered."""
    durability: str
    """What the record of it survives: REPLICATED, SPOOLED or BEST_EFFORT."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The answers for n rows, in their order, as arrays; iterating gives one `Prediction` a row."""

    ids: tuple[str, ...]
    """n prediction ids."""
    labels: NDArray[Any]
    """[n]: the classes, int64 or text."""
    scores: NDArray[np.float32]
    """[n]: as `Prediction.score`."""
    probabilities: NDArray[np.float32]
    """[n, classes]: as `Prediction.probabilities`."""
    versions: tuple[int, ...]
    """n numbers of the versions that answered."""
    durabilities: tuple[str, ...]
    """n times what the record survives."""

    def __len__(self) -> int:
        """Return n."""
        return len(self.ids)

    def __iter__(self) -> Iterator[Prediction]:
        """Yield the answer of each row."""
        rows = zip(
            self.ids,
            self.labels.tolist(),
            self.scores.tolist(),
            self.probabilities.tolist(),
            self.versions,
            self.durabilities,
            strict=True,
        )
        for id_, label, score, probabilities, version, durability in rows:
            yield Prediction(id_, label, score, tuple(probabilities), version, durability)
