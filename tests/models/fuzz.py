"""Load models with wrong bytes, in a limited process: `fuzz.py FOLDER FIRST COUNT`.

FOLDER holds of each kind `<kind>.model` and `<kind>.json`, its manifest. The number of the file that is tried stands on
standard output before it is, so that one that ends the process is known and can be made again.
"""

from __future__ import annotations

import hashlib
import io
import random
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from holdtrue_models import File, Manifest, ModelError, load
from holdtrue_models.adopt import adopt
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_stats.arrays import Float32s

EXTREMES = (
    b"\x00" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x7f\xc0\x00\x00",
    b"99999999",
    b"-1 ",
)


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The file with a few bytes changed; of an archive often a member of it, so that its sums are right."""
    if not data.startswith(b"PK") or dice.random() < 0.5:
        return changed(data, dice)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = dice.choice(sorted(members))
    members[name] = changed(members[name], dice)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def changed(data: bytes, dice: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(dice.randrange(1, 5)):
        place = dice.randrange(len(result))
        what = dice.random()
        if what < 0.6:
            result[place] = dice.randrange(256)
        elif what < 0.8:
            result[place] ^= 1 << dice.randrange(8)
        elif what < 0.9:
            extreme = dice.choice(EXTREMES)
            result[place : place + len(extreme)] = extreme
        elif what < 0.95:
            del result[place : place + dice.randrange(1, 9)]
        else:
            result[place:place] = result[place : place + dice.randrange(1, 99)]
    return bytes(result)


def attempt(data: bytes, manifest: Manifest, rows: Float32s) -> str:
    """Load the bytes as if they were the ones of the manifest, and run them. What is wrong must be an error of ours."""
    file = File(hashlib.sha256(data).hexdigest(), len(data))
    try:
        model = load(data, replace(manifest, files={manifest.kind: file}))
        answers = model.run(rows)
    except (ModelError, MemoryError) as error:
        return type(error).__name__
    assert answers.shape == (len(rows), len(manifest.signature.classes))
    return "loaded"


def attempt_to_adopt(data: bytes, manifest: Manifest, rows: Float32s) -> str:
    try:
        adopt(data, manifest.signature, rows, 0)
    except (ModelError, MemoryError) as error:
        return type(error).__name__
    return "loaded"


def main(folder: Path, first: int, count: int) -> dict[str, Counter[str]]:
    kinds = sorted(path.stem for path in folder.glob("*.json"))
    files = {kind: (folder / f"{kind}.model").read_bytes() for kind in kinds}
    manifests = {kind: Manifest.from_bytes((folder / f"{kind}.json").read_bytes()) for kind in kinds}
    found: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    for number in range(first, first + count):
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        kind = kinds[number % len(kinds)]
        manifest = manifests[kind]
        inputs = manifest.check_rows.inputs.array()
        rows = np.vstack([inputs, np.full_like(inputs, np.nan), np.full_like(inputs, -1e30)])
        attempted: Callable[[bytes, Manifest, Float32s], str] = attempt_to_adopt if kind == "adopted" else attempt
        found[kind][attempted(mutated(files[kind], random.Random(number)), manifest, rows)] += 1  # noqa: S311
    return found


if __name__ == "__main__":
    result = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(msgspec.json.encode(result).decode())
