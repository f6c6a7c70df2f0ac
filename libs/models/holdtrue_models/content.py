"""What a file is, by its first bytes. Names, headers and what a caller says about a file play no part."""

from __future__ import annotations

import hashlib
from typing import Literal

from holdtrue_models.errors import MalformedModel, UnsafeModel

Format = Literal["onnx", "skops", "ubj", "lightgbm"]

BROUGHT: tuple[Format, ...] = ("onnx", "ubj", "lightgbm")
"""What is taken over from elsewhere."""
MAX_BYTES = 2 << 30
"""Of one file of a model."""

_ACCEPTED: dict[Format, bytes] = {
    "onnx": b"\x08",  # field 1 of the message, ir_version
    "skops": b"PK\x03\x04",
    "ubj": b"{L",  # an object whose first key has a length of 64 bits: how XGBoost writes
    "lightgbm": b"tree\n",
}
_REFUSED = {
    b"\x80": "a pickle, which runs code when it is loaded",
    b"\x78": "a compressed joblib file, which runs code when it is loaded",
    b"\x1f\x8b": "a gzip file, perhaps of joblib, which runs code when it is loaded",
    b"BZh": "a bzip2 file, perhaps of joblib, which runs code when it is loaded",
    b"\xfd7zXZ": "an xz file, perhaps of joblib, which runs code when it is loaded",
    b"\x04\x22\x4d\x18": "an lz4 file, perhaps of joblib, which runs code when it is loaded",
    b"\x93NUMPY": "an array of numpy, which is no model",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"<": "XML, perhaps PMML",
    b'{"': "JSON; save an XGBoost model as UBJSON, `save_model('model.ubj')`",
}
_KINDS = "ONNX, skops, XGBoost's UBJSON or LightGBM's text"


def recognise(data: bytes) -> Format:
    """Return the format of the bytes. Raises MalformedModel if they are of none that is accepted."""
    for kind, magic in _ACCEPTED.items():
        if data.startswith(magic):
            return kind
    for magic, what in _REFUSED.items():
        if data.startswith(magic):
            raise MalformedModel(f"the file is {what}; give the model as {_KINDS}")
    raise MalformedModel(f"the file begins with {data[:4].hex(' ') or 'nothing'}; give the model as {_KINDS}")


def verified(data: bytes, digest: str, kind: Format) -> bytes:
    """Return the bytes, which are now known to be the ones that were named, and of that format.

    Raises UnsafeModel if sha256 or size are wrong, MalformedModel if it is another format.
    """
    if len(data) > MAX_BYTES:
        raise UnsafeModel(f"the file has {len(data)} bytes, at most {MAX_BYTES} are loaded")
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise UnsafeModel(f"the {kind} file has sha256 {found}, its manifest says {digest}")
    actual = recognise(data)
    if actual != kind:
        raise MalformedModel(f"the file should be {kind}, but its content is {actual}")
    return data
