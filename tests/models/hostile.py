"""Hostile skops files, made of honest ones."""

from __future__ import annotations

import io
import json
import random
import stat
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Untyped = Any
Members = dict[str, bytes]


def rebuilt(data: bytes, edit: Callable[[Untyped, Members], object]) -> bytes:
    """The file after `edit(schema, other members)`."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members.pop("schema.json"))
    edit(schema, members)
    return zipped({**members, "schema.json": json.dumps(schema).encode()})


def zipped(members: Members, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def nodes(schema: Untyped) -> list[Untyped]:
    """Every object of the schema."""
    found: list[Untyped] = []
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            found.append(node)
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return found


def with_loader(schema: Untyped, loader: str) -> Untyped:
    return next(node for node in nodes(schema) if node.get("__loader__") == loader)


def saved(array: Untyped) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def array_edit(field: str, index: int, value: float, *, last: bool = False) -> Callable[[Untyped, Members], None]:
    """Change one number in the nodes of the first, or last, tree that has such a field."""

    def edit(_: Untyped, members: Members) -> None:
        arrays = {name: np.load(io.BytesIO(data)) for name, data in members.items() if name.endswith(".npy")}
        chosen = [name for name, array in arrays.items() if field in (array.dtype.names or ())]
        name = chosen[-1 if last else 0]
        arrays[name][field][index] = value
        members[name] = saved(arrays[name])

    return edit


def values_edit(value: float) -> Callable[[Untyped, Members], None]:
    """Put a number into the values of a tree: the array of three axes."""

    def edit(_: Untyped, members: Members) -> None:
        arrays = {name: np.load(io.BytesIO(data)) for name, data in members.items() if name.endswith(".npy")}
        name = next(name for name, array in arrays.items() if array.ndim == 3)
        arrays[name].ravel()[-1] = value
        members[name] = saved(arrays[name])

    return edit


def change(node: Untyped, **fields: Untyped) -> None:
    """Change a node; skops would read another of the same id instead."""
    node.update(fields, __id__=-random.randrange(1, 1 << 60))  # noqa: S311


def tree_argument(place: int, content: str) -> Callable[[Untyped, Members], None]:
    """Change what a tree says about itself: 0 features, 2 outputs."""

    def edit(schema: Untyped, _: Members) -> None:
        change(with_loader(schema, "TreeNode")["__reduce__"]["args"]["content"][place], content=content)

    return edit


def tree_state(name: str, content: str) -> Callable[[Untyped, Members], None]:
    def edit(schema: Untyped, _: Members) -> None:
        change(with_loader(schema, "TreeNode")["content"]["content"][name], content=content)

    return edit


def attribute(name: str, content: str) -> Callable[[Untyped, Members], None]:
    """Change a number or text among the attributes of the outermost estimator that has it."""

    def edit(schema: Untyped, _: Members) -> None:
        holders = [n for n in reversed(nodes(schema)) if isinstance(n.get(name), dict) and "content" in n[name]]
        change(holders[-1][name], content=content)

    return edit


def raw_archive(data: bytes, append: Callable[[zipfile.ZipFile], None]) -> bytes:
    """Append to an archive what a writer would not."""
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        append(archive)
    return buffer.getvalue()


def named(name: str, mode: int = 0) -> Callable[[zipfile.ZipFile], None]:
    def append(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, "x")

    return append


LINK = stat.S_IFLNK | 0o777
