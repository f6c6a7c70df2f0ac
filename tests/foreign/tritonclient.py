"""What the genuine tritonclient sees of a server: tritonclient.py inspect INPUTS.json → one line of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException


def inspect(address: str, model: str, rows: list[list[float]]) -> dict[str, Any]:
    """Call everything that the protocol has for one model: what it is, what it says, how it refuses."""
    with InferenceServerClient(address) as client:
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "server": client.get_server_metadata(as_json=True),
            "model_ready": client.is_model_ready(model),
            "unknown_ready": client.is_model_ready("nobody"),
            "metadata": client.get_model_metadata(model, as_json=True),
            "config": client.get_model_config(model, as_json=True)["config"],
            "index": client.get_model_repository_index(as_json=True),
            "answer": _infer(client, model, rows),
            "refusals": [_refusal(client, "nobody", rows), _refusal(client, model, [row[1:] for row in rows])],
        }


def _infer(client: InferenceServerClient, model: str, rows: list[list[float]]) -> dict[str, Any]:
    wanted = [InferRequestedOutput("label")]
    whole = client.infer(model, _tensors(rows), request_id="order 4711")
    narrow = client.infer(model, _tensors(rows), outputs=wanted)
    response = whole.get_response()
    return {
        "request_id": response.id,
        "version": response.model_version,
        "parameters": {name: value.string_param for name, value in response.parameters.items()},
        "outputs": {output.name: whole.as_numpy(output.name).tolist() for output in response.outputs},
        "narrow": {output.name: narrow.as_numpy(output.name).tolist() for output in narrow.get_response().outputs},
    }


def _refusal(client: InferenceServerClient, model: str, rows: list[list[float]]) -> dict[str, str]:
    try:
        client.infer(model, _tensors(rows))
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    return {}


def _tensors(rows: list[list[float]]) -> list[InferInput]:
    values = np.array(rows, np.float32)
    tensor = InferInput("X", values.shape, "FP32")
    tensor.set_data_from_numpy(values)
    return [tensor]


if __name__ == "__main__":
    answer = {"inspect": inspect}[sys.argv[1]](**json.loads(Path(sys.argv[2]).read_text()))
    sys.stdout.write(json.dumps(answer) + "\n")
