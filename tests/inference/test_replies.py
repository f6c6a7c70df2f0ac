"""A reply written in pieces is the message that would have been built plainly."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from holdtrue_contracts import prediction_id
from holdtrue_contracts.ids import uuid7_bytes, uuid_text
from holdtrue_contracts.oip import client, tensors
from holdtrue_contracts.oip.inference_pb2 import ModelInferResponse
from holdtrue_inference.domain import replies
from holdtrue_inference.domain.answers import Answer, Interpreter
from holdtrue_inference.domain.errors import InvalidInput
from holdtrue_inference.domain.replies import ReplyWriter
from holdtrue_models import Column, Signature
from holdtrue_models.signature import Output
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.requests import raw

if TYPE_CHECKING:
    from holdtrue_models.signature import Label

CONSTANTS = {"holdtrue_revision": "r1", "holdtrue_role": "champion", "holdtrue_durability": "SPOOLED"}
CLASSES: list[tuple[Label, ...]] = [(0, 1), (7, -3), ("no", "yes"), ("a", "", "größer"), tuple(range(64))]


def signature(classes: tuple[Label, ...]) -> Signature:
    if len(classes) == 2:
        return Signature.binary((Column(name="a"),), (classes[0], classes[1]), threshold=0.5)
    label = "INT64" if isinstance(classes[0], int) else "BYTES"
    outputs = Output("label", label, (-1,)), Output("probabilities", "FP32", (-1, len(classes)))
    return Signature(columns=(Column(name="a"),), task="multiclass", classes=classes, outputs=outputs)


def writer(classes: tuple[Label, ...], model: str = "fraud", version: str = "3") -> ReplyWriter:
    described = signature(classes)
    return ReplyWriter(model, version, described, Interpreter(described, 0.5, "identity").labels, CONSTANTS)


def answer(classes: tuple[Label, ...], rows: int, seed: int = 0) -> Answer:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(len(classes)), rows).astype(np.float32)
    return Interpreter(signature(classes), 0.5, "identity").read(probabilities)


def plain(  # noqa: PLR0913  what is in a reply
    classes: tuple[Label, ...],
    part: Answer,
    *,
    names: list[str],
    external_id: str,
    request_id: bytes,
    tails: str,
    typed: bool,
) -> ModelInferResponse:
    """The reply for all rows of a part, built field by field."""
    response = ModelInferResponse(model_name="fraud", model_version="3", id=external_id)
    for name, value in {
        **CONSTANTS,
        "holdtrue_request_id": uuid_text(request_id),
        "holdtrue_tails": tails,
    }.items():
        client.set_parameter(response.parameters, name, value)
    arrays: dict[str, Any] = {
        "label": np.array([classes[i] for i in part.classes], np.int64 if isinstance(classes[0], int) else object),
        "probabilities": part.probabilities,
    }
    for name in names:
        array = arrays[name]
        output = response.outputs.add(name=name, datatype=tensors.datatype_of(array), shape=array.shape)
        if typed:
            tensors.fill_contents(output.contents, array)
        else:
            response.raw_output_contents.append(tensors.to_raw(array))
    return response


names = st.lists(st.sampled_from(["label", "probabilities"]), min_size=1, max_size=3)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=4) | st.sampled_from(
    ["x" * 127, "x" * 128]
)


@given(
    st.sampled_from(CLASSES),
    st.lists(st.tuples(st.integers(1, 40), st.none() | names, texts), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_replies_of_a_batch_are_what_would_have_been_built_plainly(
    classes: tuple[Label, ...], requests: list[tuple[int, list[str] | None, str]], seed: int
) -> None:
    whole = answer(classes, sum(rows for rows, _, _ in requests), seed)
    writes = writer(classes)
    rendered = writes.render(whole)
    bounds = pairwise(np.cumsum([0, *(rows for rows, _, _ in requests)]).tolist())
    for (start, stop), (rows, wanted, external_id) in zip(bounds, requests, strict=True):
        tails = ",".join(f"{start + i:013d}" for i in range(rows))
        request = raw(id=external_id)
        for name in wanted or ():
            request.outputs.add(name=name)
        request_id = uuid7_bytes()
        reply = writes.write(
            rendered,
            start,
            stop,
            wanted=writes.wanted(request),
            external_id=external_id,
            request_id=request_id,
            tails=tails.encode(),
        )
        its = slice(start, stop)
        part = Answer(whole.probabilities[its], whole.scores[its], whole.classes[its], whole.codes[its])
        for form, data in ((False, reply), (True, replies.typed(reply))):
            assert ModelInferResponse.FromString(data) == plain(
                classes,
                part,
                names=wanted or ["label", "probabilities"],
                external_id=external_id,
                request_id=request_id,
                tails=tails,
                typed=form,
            )


def test_what_a_client_reads() -> None:
    writes, request_id = writer(("no", "yes")), uuid7_bytes()
    probabilities = np.array([[0.4, 0.6], [0.9, 0.1]], np.float32)
    rendered = writes.render(Interpreter(signature(("no", "yes")), 0.5, "identity").read(probabilities))
    tails = prediction_id.tail_texts(np.array([5, 2**63], np.uint64))[:-1]
    reply = client.read_reply(
        ModelInferResponse.FromString(
            writes.write(rendered, 0, 2, wanted=(0, 1), external_id="order 7", request_id=request_id, tails=tails)
        )
    )
    assert reply.outputs["label"].tolist() == ["yes", "no"]
    np.testing.assert_array_equal(reply.outputs["probabilities"], probabilities)
    assert (reply.model, reply.version, reply.external_id) == ("fraud", "3", "order 7")
    assert (reply.revision, reply.role, reply.durability) == ("r1", "champion", "SPOOLED")
    assert reply.prediction_ids == [prediction_id.text(request_id, 5), prediction_id.text(request_id, 2**63)]


def test_outputs_are_given_in_the_order_that_was_asked_for() -> None:
    request = raw()
    assert writer((0, 1)).wanted(request) == (0, 1)
    request.outputs.add(name="probabilities")
    request.outputs.add(name="label")
    assert writer((0, 1)).wanted(request) == (1, 0)


def test_an_output_that_there_is_not_is_refused() -> None:
    request = raw()
    request.outputs.add(name="label")
    request.outputs.add(name="score")
    with pytest.raises(InvalidInput) as caught:
        writer((0, 1)).wanted(request)
    assert (caught.value.field, caught.value.description) == (
        "outputs[1].name",
        "expected one of label, probabilities, got 'score'",
    )


def test_more_shapes_than_are_kept_are_written_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "_HEADS", 3)
    writes = writer((0, 1))
    rendered = writes.render(answer((0, 1), 8))
    shapes: list[tuple[int, tuple[int, ...]]] = [(1, (0, 1)), (1, (1,)), (1, (0,)), (2, (0,)), (8, (1, 0)), (1, (1,))]
    for rows, wanted in shapes:
        data = writes.write(
            rendered, 0, rows, wanted=wanted, external_id="", request_id=uuid7_bytes(), tails=b"0" * (14 * rows - 1)
        )
        outputs = ModelInferResponse.FromString(data).outputs
        assert [(o.name, o.shape[0]) for o in outputs] == [(("label", "probabilities")[i], rows) for i in wanted]
    assert len(writes._heads) <= 3
