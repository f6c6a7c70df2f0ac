"""A reference and records to test with."""

import numpy as np
from holdtrue_contracts.columns import pack
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.ids import uuid7_bytes
from holdtrue_contracts.inference.v1.predictions_pb2 import PredictionsServed
from holdtrue_contracts.prediction_id import score_code, tails_of_requests
from holdtrue_contracts.trainer.v1.profile_pb2 import ReferenceProfile
from holdtrue_stats.calibration import fit_isotonic, score_bin
from holdtrue_stats.histogram import State, fold, freeze

AT_NS = 1_800_000_000 * 1_000_000_000
ID_KEY = 99


def profile(coded: bool = False) -> ReferenceProfile:  # noqa: FBT001, FBT002  a test's own choice
    """Two columns, the second perhaps coded; scores that are the true probabilities."""
    g = np.random.default_rng(1)
    x = np.column_stack([g.normal(0, 1, 5000), g.integers(0, 3, 5000) if coded else g.normal(0, 1, 5000)])
    score = g.random(5000)
    y = g.random(5000) < score
    edges = freeze(x, kinds=["numeric", "categorical" if coded else "numeric"])
    table = fit_isotonic(score, y).table()
    histogram = np.zeros((2, 1024), np.int64)
    np.add.at(histogram, ((score >= 0.5).astype(int), score_bin(score)), 1)
    return ReferenceProfile(
        columns=[ColumnSpec(name="a", dtype="float32"), ColumnSpec(name="b", dtype="string" if coded else "float32")],
        state=fold(edges, x, State.empty(edges)).to_bytes(),
        edges=edges.to_bytes(),
        rows=5000,
        score_histogram=pack(histogram),
        calibration=pack(table.p),
        calibration_blocks=pack(table.blocks.astype(np.int32)),
        block_labels=pack(table.labels.astype(np.int64)),
        importances=pack(np.array([0.6, 0.4])),
        precision=float(y[score >= 0.5].mean()),
        threshold=0.5,
    )


def record(requests: int = 3, rows: int = 2, *, at_ns: int = AT_NS, segment: int = 0) -> PredictionsServed:
    """A record as inference makes it."""
    g, n = np.random.default_rng(2), requests * rows
    ids = [uuid7_bytes(at_ns) for _ in range(requests)]
    scores = g.random(n).astype(np.float32)
    classes, segments = (scores >= 0.5).astype(np.int16), np.full(n, segment, np.uint8)
    raw = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)
    counts = np.full(requests, rows)
    tails = tails_of_requests(raw, counts, 5, segments, classes, score_code(scores, "identity"), ID_KEY)
    return PredictionsServed(
        revision="r",
        rows=n,
        request_ids=b"".join(ids),
        request_rows=pack(counts.astype(np.uint32)),
        tails=pack(tails),
        x=pack(g.normal(0, 1, (n, 2)).astype(np.float32)),
        scores=pack(scores[:, None]),
        answered=requests,
        latency=pack(np.bincount([9] * requests, minlength=64).astype(np.uint32)),
    )
