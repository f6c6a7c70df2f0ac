"""What probabilities mean: score, class, label, and the ids of the predictions."""

from __future__ import annotations

import numpy as np
import pytest
from holdtrue_contracts import prediction_id
from holdtrue_contracts.ids import uuid7_bytes
from holdtrue_inference.domain import answers
from holdtrue_inference.domain.answers import Interpreter
from holdtrue_models import Column, Signature
from holdtrue_models.signature import Label, Output
from hypothesis import given
from hypothesis import strategies as st

COLUMNS = (Column(name="a"),)


def multiclass(count: int) -> Signature:
    outputs = Output("label", "INT64", (-1,)), Output("probabilities", "FP32", (-1, count))
    return Signature(columns=COLUMNS, task="multiclass", classes=tuple(range(10, 10 + count)), outputs=outputs)


def binary(positive: Label = "bad") -> Signature:
    outputs = Output("label", "BYTES", (-1,)), Output("probabilities", "FP32", (-1, 2))
    return Signature(
        columns=COLUMNS, task="binary", classes=("bad", "good"), positive_class=positive, threshold=0.3, outputs=outputs
    )


@pytest.mark.parametrize(("positive", "column"), [("bad", 0), ("good", 1)])
def test_class_1_of_a_binary_model_is_the_positive_one_wherever_it_stands(positive: str, column: int) -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], np.float32)
    interpreter = Interpreter(binary(positive), 0.5, "identity")
    answer = interpreter.read(probabilities)
    np.testing.assert_array_equal(answer.scores, probabilities[:, [column]])
    assert answer.classes.tolist() == (probabilities[:, column] >= 0.5).tolist()
    assert interpreter.labels[answer.classes].tolist() == ["bad", "good", positive]
    assert interpreter.labels[1] == positive


def test_a_score_is_compared_with_the_threshold_in_double_precision() -> None:
    at = np.float32(0.3)  # a little more than 0.3
    below = np.nextafter(at, np.float32(0))  # a little less
    scores = np.array([at, below, 0, 1], np.float32)
    answer = Interpreter(binary("good"), 0.3, "identity").read(np.stack([1 - scores, scores], axis=1))
    assert answer.classes.tolist() == [1, 0, 0, 1]
    assert answer.classes.dtype == np.int16


@given(st.integers(2, 64), st.integers(1, 20), st.integers(0, 99))
def test_the_class_of_a_multiclass_model_is_the_most_probable(count: int, rows: int, seed: int) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(count), rows).astype(np.float32)
    interpreter = Interpreter(multiclass(count), 0.0, "identity")
    answer = interpreter.read(probabilities)
    assert answer.scores is probabilities
    assert answer.classes.tolist() == [row.index(max(row)) for row in probabilities.tolist()]
    assert interpreter.labels[answer.classes].tolist() == [10 + c for c in answer.classes.tolist()]
    assert answer.codes.tolist() == [min(4095, int(4096 * max(row))) for row in probabilities.tolist()]


@pytest.mark.parametrize("count", [0, 1, 65])
def test_classes_that_do_not_fit_an_id_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"2 to 64 classes, this one has {count}"):
        Interpreter(multiclass(count), 0.0, "identity")


def test_codes_follow_the_score_map_of_the_model() -> None:
    probabilities = np.array([[0.1, 0.9]], np.float32)
    codes = [Interpreter(binary("good"), 0.5, kind).read(probabilities).codes[0] for kind in ("identity", "logit")]
    assert codes == [int(4096 * np.float32(0.9)), int(4096 * (np.log(9) / 32 + 0.5))]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 99))
def test_ids_made_for_a_batch_are_those_made_one_by_one(counts: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.random(sum(counts)).astype(np.float32)
    interpreter = Interpreter(binary("good"), 0.5, "logit")
    answer = interpreter.read(np.stack([1 - scores, scores], axis=1))
    requests = [uuid7_bytes() for _ in counts]
    tails = answers.tails(requests, counts, 7, answer, 99)
    place = 0
    for request, count in zip(requests, counts, strict=True):
        for row in range(count):
            tail = prediction_id.split(int(tails[place]))
            assert prediction_id.verify(prediction_id.PredictionId(request, tail), 99)
            assert (tail.row, tail.slot, tail.segment) == (row, 7, 0)
            assert (tail.class_, tail.code) == (answer.classes[place], answer.codes[place])
            place += 1
    assert place == len(tails)
