"""Stage ``fit`` of one cell: fits the method and scores every test image on the patch grid.

The method learns from its bank, or from the drawn images themselves. The stage writes model.safetensors (all that
prediction needs), scores.safetensors (patch-grid and image scores, rows in the manifest's order) and record.json
(settings, versions, times, losses). It computes no metric. It sees no test label, except for a control that declares
that it needs the truth.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from foundad.cells import Cell
from foundad.config.base import dump
from foundad.config.encoder import Encoder
from foundad.config.method import Method
from foundad.data.draws import Draw, read_draw
from foundad.data.frame import patches_inside, windows
from foundad.data.manifest import Manifest
from foundad.detection.bank import BankTokens, FreshPairs
from foundad.detection.model import Model
from foundad.detection.pictures import Unread
from foundad.device import Compute
from foundad.key import BY_HAND, Key
from foundad.paths import AS_IS, PATCH
from foundad.provenance import machine, peak_memory, versions
from foundad.scores import Scores, write_scores
from foundad.sealed import Seal, broken, write_json
from foundad.tokens import Features

if TYPE_CHECKING:
    from PIL import Image

SCORE_BATCH = 32
Category = TypeVar("Category", str, str | None)


def fit_cell(
    cell: Cell,
    model: Model,
    manifest: Manifest,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    key: Key = BY_HAND,
) -> None:
    """Fit ``model``, score the test images of ``manifest`` and write three files.

    Args:
        inputs: ``draw`` where the method learns, its ``bank`` and ``bank.<array>`` if it reads one, ``features@<view>`` and
            ``<array>@<view>`` for every view it scores, ``masks`` if it is told the truth.
        outputs: ``model``, ``scores``, ``record``.
        key: the job's own key, and the keys that its inputs must have.

    Raises:
        UserError: the method cannot learn from this bank; the message says why.
        BrokenFile: a file is damaged, or of other images than the others.
    """
    bank, draw_hash = _bank(cell, model, manifest, inputs, key)
    image_ids = [row.image_id for row in manifest.test]
    started = time.perf_counter()
    details = model.fit(bank)
    fitted = time.perf_counter()
    if "features" not in model.method.needs:
        from foundad.detection.truth import score_truth  # keys of other methods leave it out

        # The ground truth lies in the pictures' own frame.
        found_windows = None
        patch_scores, image_scores = score_truth(manifest, inputs["masks"], key.of("masks"))
    else:
        found_windows = windows(model.encoder, [(row.width, row.height) for row in manifest.test])
        features = _features(model, inputs, image_ids, key)
        patch_scores, image_scores = score_features(model, manifest, features, found_windows)
    scored = time.perf_counter()

    model.save(outputs["model"], key.own)
    found = [model.threshold(row.category) if model.parts else None for row in manifest.test]
    thresholds = np.array([np.nan if value is None else value for value in found], np.float32)
    scores = Scores(patch_scores, image_scores, thresholds, found_windows)
    facts = {
        "cell": asdict(cell),
        "scores": write_scores(outputs["scores"], scores, cell, image_ids, key.own),
        "draw": draw_hash,
        "fit_seconds": round(fitted - started, 3),
        "score_seconds": round(scored - fitted, 3),
        "images": len(image_scores),
        "fit": details,
    }
    write_json(outputs["record"], Seal("record", key.own, _of_the_run(model) | facts))


def _of_the_run(model: Model) -> dict[str, Any]:
    """What a record says about the settings, the machine and the computation."""
    return {
        "status": "done",
        "method": dump(model.method),
        "encoder": dump(model.encoder),
        "top_k": model.top_k,
        "device": model.compute.device,
        "precision": model.compute.precision,
        "compiled": model.compute.compiled,
        "peak_memory_bytes": peak_memory(),
        "versions": versions(),
        "machine": machine(),
    }


def _bank(cell: Cell, model: Model, manifest: Manifest, inputs: Mapping[str, Path], key: Key) -> tuple[BankTokens, str]:
    """The bank that the method learns from and the hash of its draw; both are empty if it needs no drawn images."""
    if "draw" not in inputs:
        return BankTokens.empty(model.encoder.grid**2, model.encoder.channels), ""
    draw = read_draw(inputs["draw"], key.of("draw"), (cell.dataset, cell.shots, cell.seed))
    tested = {row.image_id for row in manifest.test}.intersection(draw.image_ids)
    if tested:
        raise broken(inputs["draw"], f"holds the test image {min(tested)} of the manifest")
    if "bank" in inputs:
        bank, drawn = BankTokens.load(inputs["bank"], (draw, cell.encoder), key.of("bank"))
        for array in model.method.arrays:
            name = f"bank.{array}"
            bank = bank.with_array(array, inputs[name], (draw, cell.encoder), key.of(name))
        return bank, drawn
    from foundad.pairs.encoder import drawn_images

    return fresh_bank(draw, drawn_images(draw, manifest.root), model.method, model.encoder, model.compute)


def fresh_bank(
    draw: Draw,
    images: "Sequence[Image.Image]",
    method: Method,
    encoder: Encoder,
    compute: Compute,
) -> tuple[BankTokens, str]:
    """The drawn ``images``' tokens with a source of fresh pairs instead of stored ones, and the hash of the draw."""
    from foundad.pairs.encoder import PairEncoder

    maker = PairEncoder(draw, images, method.bank, encoder, compute)
    normal = np.concatenate([tokens[PATCH] for tokens in maker.normal(SCORE_BATCH)])
    none = np.empty((0, *normal.shape[1:]), np.float16)
    fresh = FreshPairs(maker.pairs, [number % len(draw.categories) for number in range(len(normal))])
    inside = maker.inside_normal()
    return BankTokens(normal, draw.categories * maker.views, none, none, [], fresh, inside_normal=inside), draw.hash


def _features(
    model: Model, inputs: Mapping[str, Path], image_ids: list[str], key: Key
) -> dict[str, dict[str, np.ndarray | Features]]:
    """What the encoder says of the test images, as :func:`score_features` takes it."""
    found: dict[str, dict[str, np.ndarray | Features]] = {}
    for view in model.views:
        names = {array: f"{'features' if array == PATCH else array}@{view or AS_IS}" for array in model.arrays}
        found[view] = {array: Features(inputs[name], image_ids, key.of(name)) for array, name in names.items()}
    return found


def score_features(
    model: Model,
    manifest: Manifest,
    features: Mapping[str, Mapping[str, np.ndarray | Features]],
    found_windows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Patch scores [n,grid,grid] and image scores [n], float32, of all test images.

    ``features``: query view -> name -> array, as :meth:`foundad.detection.model.Model.score` takes them.
    ``found_windows`` [n,4]: where each picture lies on the encoder's input; the rest is padding. None = no padding.
    """
    grid = model.encoder.grid
    patch_scores = np.empty((len(manifest.test), grid * grid), np.float32)
    image_scores = np.empty(len(patch_scores), np.float32)
    inside = patches_inside(found_windows, grid)
    ids = np.array([row.image_id for row in manifest.test], object)
    together = "test set" in model.method.needs
    for category, batch in score_batches(model, [row.category for row in manifest.test]):
        seen = {
            view: {name: _of(array, batch, together and name == PATCH, model) for name, array in arrays.items()}
            for view, arrays in features.items()
        }
        patch_scores[batch], image_scores[batch] = model.score(
            seen, category, None if inside is None else inside[batch], ids[batch].tolist()
        )
    return patch_scores.reshape(-1, grid, grid), image_scores


def score_batches(model: Model, categories: Sequence[Category]) -> Iterator[tuple[Category, np.ndarray]]:
    """Which images are scored in one call: each category with the rows [b] of at most ``SCORE_BATCH`` of its images.

    Images that a method needs together are all of a category, or all of the dataset if its scope is pooled. The last bits
    of a product may depend on how many images are in a call, so whoever scores uses these batches.
    """
    together = "test set" in model.method.needs
    if together and model.method.scope == "pooled" and len(categories):
        yield categories[0], np.arange(len(categories))
        return
    rows: dict[Category, list[int]] = {}
    for row, category in enumerate(categories):
        rows.setdefault(category, []).append(row)
    for category, found in rows.items():
        size = len(found) if together else SCORE_BATCH
        for start in range(0, len(found), size):
            yield category, np.array(found[start : start + size])


def _of(array: np.ndarray | Features, rows: np.ndarray, unread: bool, model: Model) -> np.ndarray | Unread:
    """``rows`` of an array of test images, or what reads them later."""
    if not unread:
        return array[rows]
    return Unread(array, rows, (len(rows), model.encoder.grid**2, model.encoder.channels))
