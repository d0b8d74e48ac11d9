"""Stage ``fit``: one cell. Fits the method and scores every test image on the patch grid.

The method learns from its bank, or from the drawn images themselves. Writes model.safetensors (all that prediction needs),
scores.safetensors (patch-grid and image scores, rows in the manifest's order) and record.json (settings, versions, times,
losses). It computes no metric and sees no test label, except for the control that declares that it needs the truth.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from foundad import config
from foundad.data.draws import Draw, read_draw
from foundad.data.frame import patches_inside, windows
from foundad.data.images import load_mask, resize_mask
from foundad.data.manifest import Manifest
from foundad.detection.bank import BankTokens, FreshPairs
from foundad.detection.model import Model
from foundad.device import ON_CPU, Compute
from foundad.key import BY_HAND, Key
from foundad.paths import Cell
from foundad.provenance import machine, peak_memory, versions
from foundad.scores import Scores, write_scores
from foundad.sealed import Seal, write_json
from foundad.tokens import Features

SCORE_BATCH = 32


def fit_cell(
    cell: Cell,
    method: config.Method,
    encoder: config.Encoder,
    top_k: int,
    manifest: Manifest,
    root: Path,
    bank_path: Path | None,
    draw_path: Path | None,
    features_paths: Mapping[str, Path],
    out: Path,
    compute: Compute = ON_CPU,
    key: Key = BY_HAND,
) -> None:
    """Fit and score ``cell``; write its three files into the folder ``out``.

    ``features_paths`` name the features of the test images, and under their views those of the method's query views.
    ``key`` is the job's, with those that its inputs must have.

    Raises:
        UserError: the method cannot learn from this bank (its reason says why).
    """
    model = Model(method, encoder, cell.seed, top_k, compute)
    bank, draw_hash = BankTokens.empty(encoder.grid**2, encoder.channels), ""
    if bank_path is not None:
        of = (cell.dataset, cell.encoder, cell.shots, cell.seed)
        bank, draw_hash = BankTokens.load(bank_path, of, key.of("bank"))
    elif draw_path is not None:
        bank, draw_hash = fresh_bank(read_draw(draw_path, key.of("draw")), root, method, encoder, compute)
    image_ids = [row.image_id for row in manifest.test]
    started = time.perf_counter()
    details = model.fit(bank)
    fitted = time.perf_counter()
    if not features_paths:
        # The ground truth lies in the pictures' own frame.
        found_windows = None
        patch_scores, image_scores = score_truth(manifest, root, encoder.image_size)
    else:
        found_windows = windows(encoder, [(row.width, row.height) for row in manifest.test])
        features = {
            view: Features(path, image_ids, key.of(f"features@{view}")) for view, path in features_paths.items()
        }
        patch_scores, image_scores = score_features(model, manifest, features, found_windows)
    scored = time.perf_counter()

    model.save(out / "model.safetensors", key.own)
    found = [model.threshold(row.category) if model.parts else None for row in manifest.test]
    thresholds = np.array([np.nan if value is None else value for value in found], np.float32)
    scores = Scores(patch_scores, image_scores, thresholds, found_windows)
    checksum = write_scores(out / "scores.safetensors", scores, cell, image_ids, key.own)
    record = {
        "status": "done",
        "cell": asdict(cell),
        "scores": checksum,
        "method": config.dump(method),
        "encoder": config.dump(encoder),
        "top_k": top_k,
        "draw": draw_hash,
        "device": compute.device,
        "precision": compute.precision,
        "compiled": compute.compiled,
        "fit_seconds": round(fitted - started, 3),
        "score_seconds": round(scored - fitted, 3),
        "images": len(image_scores),
        "peak_memory_bytes": peak_memory(),
        "versions": versions(),
        "machine": machine(),
        "fit": details,
    }
    write_json(out / "record.json", Seal("record", key.own, record))


def fresh_bank(
    draw: Draw,
    root: Path,
    method: config.Method,
    encoder: config.Encoder,
    compute: Compute,
) -> tuple[BankTokens, str]:
    """The drawn images' tokens with a source of fresh pairs instead of encoded ones, and the hash of the draw."""
    from foundad.method.pairs.encoder import PairEncoder

    maker = PairEncoder(draw, root, method.bank, encoder, compute)
    normal = np.concatenate(list(maker.normal(SCORE_BATCH)))
    none = np.empty((0, *normal.shape[1:]), np.float16)
    fresh = FreshPairs(maker.pairs, [number % len(draw.categories) for number in range(len(normal))])
    inside = maker.inside_normal()
    return BankTokens(normal, draw.categories * maker.views, none, none, [], fresh, inside_normal=inside), draw.hash


def score_features(
    model: Model,
    manifest: Manifest,
    features: Mapping[str, np.ndarray | Features],
    found_windows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Patch scores [n,grid,grid] and image scores [n], float32, of all test images.

    ``features`` come by query view; ``found_windows`` [n,4] say what is padding.
    """
    grid = model.encoder.grid
    patch_scores = np.empty((len(features[""]), grid * grid), np.float32)
    image_scores = np.empty(len(patch_scores), np.float32)
    inside = patches_inside(found_windows, grid)
    categories = np.array([row.category for row in manifest.test])
    ids = np.array([row.image_id for row in manifest.test], object)
    for category in dict.fromkeys(categories.tolist()):
        rows = np.flatnonzero(categories == category)
        for start in range(0, len(rows), SCORE_BATCH):
            batch = rows[start : start + SCORE_BATCH]
            tokens = {view: array[batch] for view, array in features.items()}
            patch_scores[batch], image_scores[batch] = model.score(
                tokens.pop(""), category, tokens, None if inside is None else inside[batch], ids[batch].tolist()
            )
    return patch_scores.reshape(-1, grid, grid), image_scores


def score_truth(manifest: Manifest, root: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The ground truth as scores: masks [n,size,size] uint8 (one value an image where there are none) and labels [n]."""
    labels = np.array([row.label for row in manifest.test], np.float32)
    if not manifest.has_masks:
        return labels.astype(np.uint8).reshape(-1, 1, 1), labels
    masks = np.zeros((len(labels), size, size), np.uint8)
    for number, row in enumerate(manifest.test):
        if row.mask_path is not None:
            masks[number] = resize_mask(load_mask(root / row.mask_path, manifest.mask_threshold), size)
    return masks, labels
