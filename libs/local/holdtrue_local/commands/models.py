"""`holdtrue models inspect | convert | verify`: model files on this machine, before the platform sees them."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdtrue.cli.exits import Exit, UsageError
from holdtrue.cli.output import Output, details, suggest
from holdtrue_models import Manifest, ModelError
from holdtrue_models.onnx_limits import STANDARD

from .common import fail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdtrue_stats.arrays import Float32s

_MANIFEST, _ONNX = "manifest.json", "model.onnx"


def inspect(file: Path, /, *, output: Output = "table") -> None:
    """Show what a model file is, and whether it may be loaded; nothing of it runs.

    A file that must not be loaded, for example a pickle by another name, ends with exit code 6 and the reason.

    Examples:
        holdtrue models inspect model.onnx
        holdtrue models inspect model.ubj -o json

    Args:
        file: ONNX, skops, XGBoost's UBJSON, LightGBM's text, or a manifest.
    """
    from holdtrue_models.describe import describe  # noqa: PLC0415

    row = {"name": file.name, **_attempt(lambda: describe(_read(file)), file)}
    details(row, list(row), output)


def convert(file: Path, /, folder: Path, *, rows: Path | None = None, output: Output = "table") -> None:
    """Convert a model file of XGBoost, LightGBM or skops to ONNX, and prove that it answers alike.

    The library that wrote it is not needed. The folder gets model.onnx and manifest.json.

    Examples:
        holdtrue models convert model.ubj converted
        holdtrue models convert model.txt converted
        holdtrue models convert pipeline.skops converted --rows sample.csv

    Args:
        file: UBJSON (`save_model("model.ubj")`), LightGBM's text (`save_model("model.txt")`) or skops.
        folder: New folder for the result.
        rows: CSV, JSON lines or Parquet file of numbers, columns as the model takes them; needed for skops, which is
            loaded by scikit-learn here: only files that you trust.
    """
    from holdtrue_models.convert_file import convert_file  # noqa: PLC0415  it brings scikit-learn along

    if folder.exists():
        raise UsageError(f"{folder} exists; name a new folder")
    x = None if rows is None else _matrix(rows)
    package = _attempt(lambda: convert_file(_read(file), x), file)
    if "onnx" not in package.files:
        fail(f"{file}: cannot be served as ONNX: {package.reason}", Exit.REFUSED)
    manifest = package.manifest(score_map="identity", pins={}, reference_profile="")
    _write(folder, {_ONNX: package.files["onnx"], _MANIFEST: manifest.to_bytes()})
    row = {
        "name": str(folder / _ONNX),
        "bytes": manifest.artifact.size,
        "rows_compared": package.parity.rows,
        "largest_difference": package.parity.largest,
        "labels_that_differ": package.parity.flips,
    }
    details(row, list(row), output)
    suggest(f"holdtrue models verify {folder}", output)


def verify(folder: Path, /, *, output: Output = "table") -> None:
    """Load a converted model in a limited process, as the platform does, and see that it reproduces its check rows.

    Examples:
        holdtrue models verify converted

    Args:
        folder: Folder with model.onnx and manifest.json, as `convert` makes them.
    """
    from holdtrue_models.worker import try_out  # noqa: PLC0415

    model, manifest = folder / _ONNX, folder / _MANIFEST
    report = _attempt(lambda: try_out(_read(model), Manifest.from_bytes(_read(manifest))), folder)
    row = {
        "name": str(model),
        "check_rows": "reproduced",
        "load_seconds": round(report.load_seconds, 3),
        "memory_mb": report.memory_bytes >> 20,
        "network": "none" if report.isolated else "not isolated on this system",
    }
    details(row, list(row), output)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make the folder with all of the files, or nothing."""
    draft = folder.with_name(f".{folder.name}.new")
    try:
        draft.mkdir(parents=True)
        for name, content in files.items():
            (draft / name).write_bytes(content)
        draft.rename(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise UsageError(f"{folder}: {error.strerror}; name a new folder where you may write") from error


def _read(file: Path) -> bytes:
    """The bytes of a regular file: what has no end is not begun."""
    try:
        info = file.stat()
        if not stat.S_ISREG(info.st_mode):
            raise UsageError(f"{file}: is no file with an end; give the path of a model file")
        if info.st_size > STANDARD.file_bytes:
            raise UsageError(f"{file}: has {info.st_size:,} bytes; a model has at most {STANDARD.file_bytes:,}")
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; give the path of a model file") from error


def _attempt(work: Any, what: Path) -> Any:  # noqa: ANN401  what the work returns
    try:
        return work()
    except ModelError as error:
        fail(f"{what}: {error}", Exit.REFUSED)


def _matrix(file: Path) -> Float32s:
    """The rows of a file as float32 [n, d]."""
    import numpy as np  # noqa: PLC0415
    from holdtrue.tables import read_file  # noqa: PLC0415

    table = read_file(file)
    try:
        columns = [column.cast("float64").to_numpy().astype(np.float32) for column in table.columns]
    except ValueError as error:  # Arrow's errors are ValueErrors
        raise UsageError(f"{file}: expected numbers only: {error}") from error
    return np.column_stack(columns)
