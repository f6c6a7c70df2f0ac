"""Predicting: what an application needs of the platform."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import numpy as np
from holdtrue_contracts.oip import SIGNATURE_PARAMETER, inference_pb2
from holdtrue_contracts.oip.client import infer_request, method, read_reply

from holdtrue import endpoints
from holdtrue.connection import Connection
from holdtrue.errors import FailedPrecondition, InvalidArgument, with_row
from holdtrue.prediction import Prediction, Predictions
from holdtrue.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from holdtrue_contracts.oip.client import Reply
    from numpy.typing import NDArray

    Row = Mapping[str, Any]
    Tensors = dict[str, NDArray[Any]]

MOST_INFER_BYTES = 16 << 20
"""Largest message of the inference service."""
T = TypeVar("T")
_ROWS = 2048
_IN_FLIGHT = 4


class Model:
    """A deployed model by the name that applications call. Threads may share it: one channel serves all."""

    def __init__(self, name: str, connection: Connection | None = None) -> None:
        """Find the platform as `connect` does, unless a connection is given."""
        self.name = name
        self._owned = connection is None
        self._connection = connection or Connection(endpoints.find())
        channel = self._connection.channel("inference", max_message_bytes=MOST_INFER_BYTES)
        self._infer = method(channel, "ModelInfer")
        self._config = method(channel, "ModelConfig")

    @cached_property
    def signature(self) -> Signature:
        """What the model takes, asked once; raises NotFound for an unknown name."""
        answer = self._connection.call(self._config, inference_pb2.ModelConfigRequest(name=self.name))
        parameter = answer.config.parameters.get(SIGNATURE_PARAMETER)
        if parameter is None:
            raise FailedPrecondition(f"the server of {self.name} does not say what the model takes")
        return Signature.from_json(parameter.string_value)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that a row must have."""
        return self.signature.columns

    @overload
    def predict(self, rows: Row, *, deadline: float = 1.0, key: str = "", version: int = 0) -> Prediction: ...
    @overload
    def predict(self, rows: Sequence[Row], *, deadline: float = 1.0, version: int = 0) -> list[Prediction]: ...
    @overload
    def predict(self, rows: NDArray[Any], *, deadline: float = 1.0, version: int = 0) -> Predictions: ...

    def predict(
        self, rows: Row | Sequence[Row] | NDArray[Any], *, deadline: float = 1.0, key: str = "", version: int = 0
    ) -> Prediction | list[Prediction] | Predictions:
        """Return the prediction of a row, of each row of a list, or of each row of an array [n, columns].

        `deadline` seconds hold for each of the calls that many rows are split into. `key` is the caller's own id of a
        single row: a label may name it. `version` pins a version; 0: traffic is split as the rollout says.
        Raises InvalidArgument, NotFound, DeadlineExceeded, ResourceExhausted, Unavailable.
        """
        if isinstance(rows, np.ndarray):
            return self._predict(lambda s: s.matrix(rows), deadline, "", version)
        if isinstance(rows, Mapping):
            return next(iter(self._predict(lambda s: s.tensors([rows]), deadline, key, version)))
        if key:
            raise InvalidArgument("key: names a single row; predict the rows one by one to give each its own")
        return list(self._predict(lambda s: s.tensors(rows), deadline, "", version))

    def close(self) -> None:
        """Close the connection, if it is the model's own."""
        if self._owned:
            self._connection.close()

    def __enter__(self) -> Self:
        """Return the model."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _predict(self, tensors: Callable[[Signature], Tensors], deadline: float, key: str, version: int) -> Predictions:
        if deadline <= 0:
            raise InvalidArgument(f"deadline: expected seconds above 0, got {deadline:g}")
        known = self.signature
        try:
            return self._ask(tensors(known), deadline, key, version)
        except InvalidArgument:
            self.__dict__.pop("signature", None)  # a new version may take other columns: ask again
            if self.signature == known:
                raise
        return self._ask(tensors(self.signature), deadline, key, version)

    def _ask(self, tensors: Tensors, deadline: float, key: str, version: int) -> Predictions:
        if not len(next(iter(tensors.values()))):
            raise InvalidArgument("rows: expected at least one, got none")
        return self._joined([read_reply(answer) for answer in self._pipelined(tensors, deadline, key, version)])

    def _pipelined(
        self, tensors: Tensors, deadline: float, key: str, version: int
    ) -> Iterator[inference_pb2.ModelInferResponse]:
        """Yield the answers in order, with a few calls under way at once."""
        waiting: deque[Callable[[], inference_pb2.ModelInferResponse]] = deque()
        for first, part in _parts(tensors):
            request = infer_request(self.name, part, version=str(version or ""), external_id=key)
            waiting.append(_counted(self._connection.begin(self._infer, request, deadline), first))
            if len(waiting) == _IN_FLIGHT:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()

    def _joined(self, replies: Sequence[Reply]) -> Predictions:
        labels = np.concatenate([reply.outputs["label"].ravel() for reply in replies])
        probabilities = np.concatenate([reply.outputs["probabilities"] for reply in replies])
        sizes = [len(reply.outputs["label"]) for reply in replies]
        return Predictions(
            ids=tuple(i for reply in replies for i in reply.prediction_ids),
            labels=labels,
            scores=_scores(probabilities, self.signature.positive),
            probabilities=probabilities,
            versions=tuple(int(r.version) for r, n in zip(replies, sizes, strict=True) for _ in range(n)),
            durabilities=tuple(r.durability for r, n in zip(replies, sizes, strict=True) for _ in range(n)),
        )


def _parts(tensors: Tensors) -> Iterator[tuple[int, Tensors]]:
    """Yield (number of the first row, rows) of parts that one message holds."""
    n = len(next(iter(tensors.values())))
    step = max(1, min(_ROWS, MOST_INFER_BYTES // 2 * n // max(1, sum(values.nbytes for values in tensors.values()))))
    for first in range(0, n, step):
        yield first, {name: values[first : first + step] for name, values in tensors.items()}


def _counted(wait: Callable[[], T], first: int) -> Callable[[], T]:
    """Return the same, but errors count rows from the first of all and not from that of the part."""

    def answer() -> T:
        try:
            return wait()
        except InvalidArgument as error:
            raise with_row(error, lambda row: (row + first, f"row {row + first}")) from error

    return answer


def _scores(probabilities: NDArray[Any], positive: int | None) -> NDArray[np.float32]:
    return probabilities.max(axis=1) if positive is None else probabilities[:, positive]
