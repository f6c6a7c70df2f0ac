"""What the genuine tritonclient sees of a model, and that Kafka has the very predictions."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from aiokafka import AIOKafkaConsumer
from holdtrue_contracts import prediction_id
from holdtrue_contracts.codec import decode
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_local import foreign
from sklearn.datasets import load_breast_cancer

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "tumour-check"
_SECONDS = 60


async def served(kafka: str, wanted: set[str]) -> dict[str, PredictionsServed]:
    """The events of `predictions.v1` that hold the wanted predictions, by prediction id."""
    found: dict[str, PredictionsServed] = {}
    consumer = AIOKafkaConsumer("predictions.v1", bootstrap_servers=kafka, auto_offset_reset="earliest")
    async with asyncio.timeout(_SECONDS), consumer:
        while not wanted <= found.keys():
            record = await consumer.getone()
            event = decode(record.key, record.value, record.headers).data
            assert isinstance(event, PredictionsServed)
            found |= dict.fromkeys(wanted.intersection(ids(event)), event)
    return found


def ids(event: PredictionsServed) -> list[str]:
    """Ids of all predictions of a batch, by row."""
    requests = np.frombuffer(event.request_rows.data, np.uint32)
    tails = np.frombuffer(event.tails.data, np.uint64)
    owner = np.repeat(np.arange(len(requests)), requests)
    return [
        prediction_id.text(event.request_ids[16 * i : 16 * i + 16], int(tail))
        for i, tail in zip(owner.tolist(), tails, strict=True)
    ]


def check_what_the_client_sees(inference: str, kafka: str, folder: Path) -> None:
    data: Any = load_breast_cancer()
    rows = np.asarray(data.data[[0, 19, 20]], np.float32)
    inputs = folder / "inputs.json"
    inputs.write_text(json.dumps({"address": inference, "model": MODEL, "rows": rows.tolist()}))
    seen = foreign.ask("tritonclient", "inspect", inputs)
    check_descriptions(seen, [name.replace(" ", "_") for name in data.feature_names])
    check_refusals(seen["refusals"])
    answer = seen["answer"]
    assert (answer["request_id"], answer["version"]) == ("order 4711", "1")
    assert answer["outputs"]["label"] == [1, 0, 0]
    assert answer["narrow"] == {"label": [1, 0, 0]}
    told = answer["parameters"]
    made = [f"{told['holdtrue_request_id']}/{tail}" for tail in told["holdtrue_tails"].split(",")]
    check_record(asyncio.run(served(kafka, set(made))), made, rows, answer)


def check_descriptions(seen: dict[str, Any], columns: list[str]) -> None:
    assert (seen["live"], seen["ready"], seen["model_ready"], seen["unknown_ready"]) == (True, True, True, False)
    assert seen["server"]["name"] == "holdtrue"
    metadata, config = seen["metadata"], seen["config"]
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == (MODEL, ["1"], "onnxruntime_onnx")
    assert metadata["inputs"] == [{"name": "X", "datatype": "FP32", "shape": ["-1", str(len(columns))]}]
    assert "label" in {output["name"] for output in metadata["outputs"]}
    assert [(i["name"], i["data_type"], i["dims"]) for i in config["input"]] == [
        ("X", "TYPE_FP32", [str(len(columns))])
    ]
    assert all(column in json.dumps(config["parameters"]) for column in columns)
    assert [(m["name"], m["state"]) for m in seen["index"]["models"]] == [(MODEL, "READY")]


def check_refusals(refusals: list[dict[str, str]]) -> None:
    unknown, narrow = refusals
    assert unknown["status"] == "StatusCode.NOT_FOUND"
    assert "nobody" in unknown["message"]
    assert narrow["status"] == "StatusCode.INVALID_ARGUMENT"
    assert "30" in narrow["message"]


def check_record(
    events: dict[str, PredictionsServed], made: list[str], rows: np.ndarray[Any, Any], answer: dict[str, Any]
) -> None:
    """The record holds what was asked and what was answered, row by row."""
    for place, prediction in enumerate(made):
        event = events[prediction]
        at = ids(event).index(prediction)
        asked = np.frombuffer(event.x.data, np.float32).reshape(event.rows, -1)[at]
        assert asked.tolist() == rows[place].tolist()
        assert np.frombuffer(event.classes.data, np.int16)[at] == answer["outputs"]["label"][place]
        assert event.model_version == 1
        assert "order 4711" in str(event.external_ids)
