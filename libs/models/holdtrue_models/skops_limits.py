"""What a skops file may contain before skops reads it.

A skops file is a zip archive: `schema.json` says how to build the object, the other members hold its arrays. Every
part of the schema that names a loader or a type is looked at here, wherever it stands, so that this cannot be led past
what skops will read.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
import zipfile
import zlib
from typing import Any, cast

from holdtrue_models.errors import MalformedModel, UnsafeModel
from holdtrue_models.zip_limits import check_zip

Node = Any  # a JSON value

SCHEMA = "schema.json"
SCHEMA_BYTES = 16 << 20
SCHEMA_PARTS = 1_000_000
"""Objects, arrays and items of the schema; each costs about a hundred bytes once it is read."""
DEPTH = 100
PROTOCOL = 2

_LOADERS = """
CachedNode DefaultDictNode DictNode DTypeNode FunctionNode JsonNode ListNode LossNode NdArrayNode ObjectNode
PartialNode SetNode SliceNode TreeNode TupleNode TypeNode
"""
LOADERS = frozenset(_LOADERS.split())
"""None makes a bound method, raw bytes, a random generator, or a matrix inside another archive."""

_OWN_MODULES = re.compile(r"(?:builtins|collections|functools|numpy|scipy|sklearn)(?:\.\w+)*")
_GENERATORS = frozenset({"RandomStateNode", "RandomGeneratorNode"})
_ARRAY = re.compile(rb"\x93NUMPY(?:\x01\x00..|[\x02\x03]\x00....)", re.DOTALL)
_HEADER_BYTES = 10_000
_DTYPE = re.compile(r"[<>|=]?(?:[biufc]\d{1,2}|[SUV]\d{1,6})")
_RECORD_FIELDS = 64


def check_skops(data: bytes) -> None:
    """Raise MalformedModel or UnsafeModel unless the bytes are a skops file within the limits.

    Costs the memory of the schema once it is read: call it in the limited process, after `check_zip` in the server.
    """
    members = {member.filename: member.file_size for member in check_zip(data)}
    if not 0 < members.get(SCHEMA, 0) <= SCHEMA_BYTES:
        raise UnsafeModel(f"the archive has no {SCHEMA} of at most {SCHEMA_BYTES} bytes, so it is no skops file")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = _check_schema(archive.read(SCHEMA))
            for name in files:
                if name not in members:
                    raise MalformedModel(f"the skops file names {name!r}, which is not in it")
                with archive.open(name) as member:
                    _check_array(member.read(_HEADER_BYTES), members[name], name)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise MalformedModel(f"the skops file is damaged: {error}") from error


def _check_schema(text: bytes) -> set[str]:
    """Return the names of the members that the schema refers to."""
    if sum(text.count(mark) for mark in (b"{", b"[", b",")) > SCHEMA_PARTS:
        raise UnsafeModel(f"the skops file's schema has more than {SCHEMA_PARTS} parts")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedModel(f"the skops file's schema is not JSON: {error}") from error
    if not isinstance(schema, dict) or cast("dict[str, Node]", schema).get("protocol") != PROTOCOL:
        raise UnsafeModel(
            f"only skops files of protocol {PROTOCOL} are loaded; save the model with skops 0.16 or newer"
        )
    return _walk(cast("dict[str, Node]", schema))


def _walk(schema: dict[str, Node]) -> set[str]:
    files: set[str] = set()
    waiting: list[tuple[Node, int]] = [(schema, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > DEPTH:
            raise UnsafeModel(f"the skops file's schema is nested deeper than {DEPTH}")
        if isinstance(node, dict):
            fields = cast("dict[str, Node]", node)
            _check_node(fields, files)
            waiting.extend((value, depth + 1) for value in fields.values())
        elif isinstance(node, list):
            waiting.extend((item, depth + 1) for item in cast("list[Node]", node))
    return files


def _check_node(fields: dict[str, Node], files: set[str]) -> None:
    loader, module = fields.get("__loader__"), fields.get("__module__")
    if loader in _GENERATORS:
        raise UnsafeModel("the skops file holds a random generator, whose state can crash numpy; save it without one")
    if loader is not None and loader not in LOADERS:
        raise UnsafeModel(f"the skops file uses the loader {loader!r}, which is not on the list of safe ones")
    if module is not None and not (isinstance(module, str) and _OWN_MODULES.fullmatch(module)):
        raise UnsafeModel(
            f"the skops file uses the module {module!r}; only types of scikit-learn, numpy and scipy are loaded"
        )
    if isinstance(fields.get("file"), str) and loader == "NdArrayNode":
        files.add(fields["file"])


def _check_array(head: bytes, size: int, name: str) -> None:
    """Refuse an array whose header promises more than the member holds: numpy would make room for all of it."""
    match = _ARRAY.match(head)
    if match is None:
        raise MalformedModel(f"the skops file's member {name!r} is no array of numpy")
    length = int.from_bytes(match[0][8:], "little")
    begin = match.end()
    try:
        header = ast.literal_eval(head[begin : begin + length].decode("latin-1").strip())
        shape, itemsize = tuple(map(int, header["shape"])), _itemsize(header["descr"])
    except (SyntaxError, ValueError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise MalformedModel(f"the header of the array {name!r} cannot be read") from error
    if min(shape, default=0) < 0 or math.prod(shape) * itemsize != size - begin - length:
        raise UnsafeModel(f"the array {name!r} promises {shape} items, which do not fit its {size} bytes")


def _itemsize(descr: Node) -> int:
    """Bytes of one item of a dtype as headers write it. Raises ValueError for objects and what else is no number."""
    if isinstance(descr, list):
        fields = cast("list[tuple[str, Node] | tuple[str, Node, Node]]", descr)
        if len(fields) > _RECORD_FIELDS:
            raise ValueError("too many fields")
        return sum(_itemsize(f[1]) * math.prod(f[2] if len(f) > 2 else ()) for f in fields)  # noqa: PLR2004 - with a shape
    if not isinstance(descr, str) or not _DTYPE.fullmatch(descr):
        raise ValueError("not a number or a text")
    kind, width = descr.lstrip("<>|=")[0], descr.lstrip("<>|=")[1:]
    return int(width) * (4 if kind == "U" else 1)
