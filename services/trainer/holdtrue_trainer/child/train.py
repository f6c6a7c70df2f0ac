"""One run from its input files to its output files."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from holdtrue_models import Manifest, Signature, load
from holdtrue_models.adopt import adopt
from holdtrue_models.package import Package, export

from holdtrue_trainer.child import data, exchange
from holdtrue_trainer.child.exchange import Job, Judged, Stage, Success
from holdtrue_trainer.child.fit import fit, threshold_on
from holdtrue_trainer.child.profile import Reference, importances
from holdtrue_trainer.domain.evaluation import Evaluation, Scored, cells, evaluate
from holdtrue_trainer.domain.recipe import PrecisionRule, Recipe, parse
from holdtrue_trainer.domain.split import DataError, Split, by_digest, by_time, window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from holdtrue_models import Model
    from holdtrue_stats.arrays import Float32s, Ints

    from holdtrue_trainer.child.data import Rows

PINNED = ("scikit-learn", "numpy", "scipy", "skl2onnx", "onnx", "onnxruntime", "skops", "holdtrue-trainer")


def train(folder: Path, announce: Callable[[Stage], None]) -> Success:
    """Do the job of this folder and leave the files of OUTPUTS. Raises DataError, RecipeError or ModelError."""
    announce("loading")
    job = exchange.decode_job((folder / exchange.JOB).read_bytes())
    recipe = parse(job.recipe)
    training, holdout = _divide(data.load(folder / exchange.DATA, job, recipe), job, recipe)
    announce("training")
    make = _adopted if recipe.artifact else _trained
    package = make(folder, recipe, training, holdout, job.seed)
    announce("evaluating")
    champion = _score_champion(folder, holdout)
    reference = _judge(package.model, holdout, job.seed)
    announce("packing")
    manifest = _write(folder, package, training, reference, job)
    learnt = training.times[:0] if recipe.artifact else training.times
    return _success(job, learnt, reference, champion, manifest)


def _trained(_folder: Path, recipe: Recipe, training: Rows, holdout: Rows, seed: int) -> Package:
    fitted = fit(recipe, training, seed)
    signature = Signature.binary(training.columns, training.classes, fitted.threshold)
    return export(fitted.classifier, signature, holdout.x, seed)


def _adopted(folder: Path, recipe: Recipe, training: Rows, holdout: Rows, seed: int) -> Package:
    """Take over the model that was brought along; rows before the hold-out only choose its threshold."""
    given = (folder / exchange.GIVEN_MODEL).read_bytes()
    rule = recipe.threshold
    fixed = 0.5 if isinstance(rule, PrecisionRule) else float(rule)
    package = adopt(given, Signature.binary(training.columns, training.classes, fixed), holdout.x, seed)
    if not isinstance(rule, PrecisionRule):
        return package
    score = package.model.run(training.x)[:, 1].astype(np.float64)
    return package.with_threshold(threshold_on(training, score, rule.precision))


def _divide(rows: Rows, job: Job, recipe: Recipe) -> tuple[Rows, Rows]:
    """Return the rows to train on and those of the hold-out, which the champion has not seen."""
    used = rows.take(window(rows.times, job.from_ns, job.last_rows))
    if not len(used):
        raise DataError("no labelled row is late enough for this run; publish newer rows")
    split = _split(used, job, recipe.holdout.share)
    training, holdout = used.take(split.train), used.take(split.holdout)
    if job.ordered:
        holdout = holdout.take(holdout.times > job.champion_seen_ns)
    if not len(training) or not len(holdout):
        raise DataError(
            f"{len(used)} labelled rows give {len(training)} to train on and {len(holdout)} for the hold-out that the "
            f"champion was not trained on; publish more rows, or change `holdout.share` in the recipe"
        )
    return training, holdout


def _split(rows: Rows, job: Job, share: float) -> Split:
    return by_time(rows.times, share) if job.ordered else by_digest(rows.x, rows.y, share)


def _judge(model: Model, holdout: Rows, seed: int) -> Reference:
    scored = _score(model, holdout.x)
    share = importances(lambda x: _score(model, x).score, holdout, seed)
    return Reference(holdout, scored, evaluate(scored, holdout.y), share, _threshold(model))


def _score(model: Model, x: Float32s) -> Scored:
    return Scored.of(model.run(x)[:, 1].astype(np.float64), _threshold(model))


def _threshold(model: Model) -> float:
    """The threshold of a binary model, which always has one."""
    return cast("float", model.signature.threshold)


def _score_champion(folder: Path, holdout: Rows) -> Scored | None:
    """Score the champion by its own file; None if it has none here or the rows lack one of its columns."""
    if not (folder / exchange.CHAMPION_MANIFEST).exists():
        return None
    manifest = Manifest.from_bytes((folder / exchange.CHAMPION_MANIFEST).read_bytes())
    names = [column.name for column in holdout.columns]
    if not set(manifest.signature.names) <= set(names):
        return None
    model = load((folder / exchange.CHAMPION_MODEL).read_bytes(), manifest)
    return _score(model, np.ascontiguousarray(holdout.x[:, [names.index(name) for name in manifest.signature.names]]))


def _write(folder: Path, package: Package, training: Rows, reference: Reference, job: Job) -> Manifest:
    profile = reference.profile().SerializeToString(deterministic=True)
    names = package.model.signature.names
    manifest = package.manifest(
        score_map=reference.score_map,
        importances=dict(zip(names, reference.importances.tolist(), strict=True)),
        pins=_pins(job, training, reference.holdout),
        reference_profile=hashlib.sha256(profile).hexdigest(),
    )
    files: Mapping[str, bytes] = {
        **{exchange.MODELS[role]: content for role, content in package.files.items()},
        exchange.PROFILE: profile,
        exchange.MANIFEST: manifest.to_bytes(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return manifest


def _pins(job: Job, training: Rows, holdout: Rows) -> dict[str, str]:
    """Return what a later run must have in common with this one to give the same model."""
    return (
        {name: version(name) for name in PINNED}
        | _library(parse(job.recipe))
        | {
            "python": platform.python_version(),
            "platform": f"{sys.platform}-{platform.machine()}",
            "threads": os.environ.get("OMP_NUM_THREADS", ""),
            "network": os.environ.get("HOLDTRUE_CHILD_NETWORK", "not isolated"),
            "dataset": job.dataset_digest,
            "training rows": training.digest,
            "hold-out rows": holdout.digest,
            "recipe": hashlib.sha256(job.recipe.encode()).hexdigest(),
            "seed": str(job.seed),
        }
    )


def _library(recipe: Recipe) -> dict[str, str]:
    """Return the version of what the recipe trains with, if that is not scikit-learn."""
    if recipe.artifact or recipe.module.startswith("sklearn"):
        return {}
    return {recipe.module: cast("Any", importlib.import_module(recipe.module)).__version__}


def _success(job: Job, learnt: Ints, reference: Reference, champion: Scored | None, manifest: Manifest) -> Success:
    """Return the result; `learnt` are the times of the rows that the model was trained on here."""
    holdout = reference.holdout
    judged, compared = _against(job, reference, champion)
    return Success(
        canonical_digest=manifest.canonical_digest,
        threshold=reference.threshold,
        candidate=_judged(0, reference.evaluation),
        champion=judged,
        cells=compared,
        train_rows=len(learnt),
        train_from_ns=int(learnt.min()) if len(learnt) else 0,
        train_to_ns=int(learnt.max(initial=0)),
        holdout_from_ns=int(holdout.times.min()),
        holdout_to_ns=int(holdout.times.max()),
        pins=manifest.pins,
        importances=manifest.importances,
    )


def _against(job: Job, reference: Reference, champion: Scored | None) -> tuple[Judged | None, tuple[int, ...]]:
    """Return the champion's evaluation and the eight cells, which are all zero if the two cannot be compared."""
    if not job.champion_version:
        return None, ()
    if champion is None:
        return Judged(job.champion_version, 0, 0, 0, 0, 0, {}), (0,) * 8
    y = reference.holdout.y
    counted = cells(champion.flagged, reference.scored.flagged, y)
    return _judged(job.champion_version, evaluate(champion, y)), tuple(counted.tolist())


def _judged(model_version: int, evaluation: Evaluation) -> Judged:
    c = evaluation.counts
    return Judged(model_version, int(c.n), int(c.tp), int(c.fp), int(c.fn), int(c.tn), evaluation.metrics)
