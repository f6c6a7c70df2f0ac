"""What a model file is and holds, found without running anything of it."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import Counter
from typing import TYPE_CHECKING, Any

from holdtrue_models.content import recognise
from holdtrue_models.forest import check_forest
from holdtrue_models.forest_model import READERS
from holdtrue_models.manifest import Manifest
from holdtrue_models.onnx_limits import check_onnx, parse_onnx
from holdtrue_models.skops_limits import SCHEMA, check_skops

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdtrue_models.content import Format

Facts = dict[str, Any]
"""Names and values for a person, JSON values only."""
_MANIFEST = b'{"'


def describe(data: bytes) -> Facts:
    """Return what the bytes are: kind, size, digest, and what that kind tells of itself.

    All that can be checked without running it has been. Raises MalformedModel, UnsafeModel or
    UnsupportedModel.
    """
    known = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if data.startswith(_MANIFEST):
        return {"kind": "manifest", **known, **_manifest(data)}
    kind = recognise(data)
    return {"kind": kind, **known, **_DESCRIBE[kind](data)}


def _manifest(data: bytes) -> Facts:
    manifest = Manifest.from_bytes(data)
    signature = manifest.signature
    return {
        "task": signature.task,
        "columns": list(signature.names),
        "classes": list(signature.classes),
        "threshold": signature.threshold,
        "serves": manifest.kind,
        "files": {role: file.digest for role, file in manifest.files.items()},
        "check rows": manifest.check_rows.inputs.rows,
        "importances": manifest.importances,
        "pins": manifest.pins,
    }


def _onnx(data: bytes) -> Facts:
    check_onnx(data)
    model = parse_onnx(data)
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        "takes": {v.name: _shape(v) for v in model.graph.input if v.name not in constants},
        "gives": {v.name: _shape(v) for v in model.graph.output},
        "nodes": len(model.graph.node),
        "operators": dict(Counter(node.op_type for node in model.graph.node).most_common()),
    }


def _shape(value: Any) -> list[int | str]:  # noqa: ANN401 - a message whose class exists only at run time
    return [dim.dim_value or "n" for dim in value.type.tensor_type.shape.dim]


def _skops(data: bytes) -> Facts:
    check_skops(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = json.loads(archive.read(SCHEMA))
    return {
        "estimator": f"{schema.get('__module__', '')}.{schema.get('__class__', '')}",
        "skops": schema.get("_skops_version", ""),
        "members": len(archive.namelist()),
    }


def _forest(kind: Format, data: bytes) -> Facts:
    forest = READERS[kind](data)
    return {
        "columns": forest.width,
        "gives": f"{forest.outputs} by {forest.link}",
        "trees": len(forest.roots),
        "leaves": int((~forest.branch).sum()),
        "levels": check_forest(forest),
    }


_DESCRIBE: Mapping[Format, Callable[[bytes], Facts]] = {
    "onnx": _onnx,
    "skops": _skops,
    "ubj": lambda data: _forest("ubj", data),
    "lightgbm": lambda data: _forest("lightgbm", data),
}
