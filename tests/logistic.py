"""A model as it comes from elsewhere: an ONNX graph with names of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence


def logistic(weights: Sequence[float], bias: float = 0.0) -> bytes:
    """A logistic regression from "in" [n, d] to the probability of the positive class, "out" [n, 1]."""
    make: Any = helper
    graph = make.make_graph(
        [
            make.make_node("Gemm", ["in", "w", "b"], ["z"]),
            make.make_node("Sigmoid", ["z"], ["out"]),
        ],
        "logistic",
        [make.make_tensor_value_info("in", TensorProto.FLOAT, [None, len(weights)])],
        [make.make_tensor_value_info("out", TensorProto.FLOAT, [None, 1])],
        [
            numpy_helper.from_array(np.array(weights, np.float32)[:, None], "w"),
            numpy_helper.from_array(np.array([bias], np.float32), "b"),
        ],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9).SerializeToString()
