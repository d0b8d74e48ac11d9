"""Heatmaps: image, mask, anomaly map and overlay of test images, and the overlay that ``predict`` writes.

Images are chosen by rule, not by eye: of each category the defective ones with the highest, the median and the lowest
score, some at random, and the normal one with the highest score. One colour scale a category.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from foundad import config
from foundad.data.frame import patches_inside
from foundad.data.images import load_image, load_mask, resize_mask, resize_square
from foundad.data.location import image_root
from foundad.data.manifest import Row, read_manifest
from foundad.failures import failure_of, require
from foundad.files import write_csv
from foundad.metrics.maps import upsample
from foundad.paths import Cell, Results
from foundad.plan.catalogue import Catalogue
from foundad.report import style
from foundad.scores import read_scores

SIZE = 224
COLOURS = "inferno"
ROWS_IN_ONE_BLOCK = 8


@dataclass(frozen=True)
class Shown:
    """One row of a gallery: image [S,S,3] uint8, mask [S,S] or None, map [S,S] float32 and what is written beside it."""

    image: np.ndarray
    mask: np.ndarray | None
    anomaly_map: np.ndarray
    scale: tuple[float, float]
    title: str


def write_gallery(results: Results, catalogue: Catalogue, spec: config.GalleryFigure, path: Path) -> None:
    """Draw the gallery of one cell; a failed cell gives a figure that says so."""
    cell = Cell(spec.dataset, spec.encoder, spec.method, spec.shots, spec.seed)
    scores_path = results.cell(cell) / "scores.safetensors"
    reason = failure_of(scores_path)
    if reason is not None:
        with plt.rc_context(style.STYLE):
            figure = plt.figure(figsize=(style.COLUMN_WIDTH, 1))
            figure.text(0.5, 0.5, f"{cell} failed:\n{reason}", ha="center", va="center", wrap=True)
            style.save(figure, path)
        _write_data(path, [])
        return
    require([results.manifest(spec.dataset, "truth")])
    manifest = read_manifest(results.manifest(spec.dataset, "truth"))
    scores, _ = read_scores(scores_path, cell, [row.image_id for row in manifest.test])
    patch_scores, image_scores = scores.patch_scores, scores.image_scores
    inside = patches_inside(scores.windows, patch_scores.shape[1])
    root = image_root(results.located(catalogue.datasets[spec.dataset]))
    shown, rows = [], []
    for category in sorted({row.category for row in manifest.test}):
        numbers = [n for n, row in enumerate(manifest.test) if row.category == category]
        seen = (
            patch_scores[numbers].ravel() if inside is None else patch_scores[numbers].ravel()[inside[numbers].ravel()]
        )
        low, high = np.percentile(seen, [1, 99.9])
        for number, role in choose(manifest.test, image_scores, numbers, spec.random, spec.seed).items():
            row = manifest.test[number]
            mask = None
            if row.mask_path is not None:
                mask = resize_mask(load_mask(root / row.mask_path, manifest.mask_threshold), SIZE)
            image = resize_square(load_image(root / row.image_path), SIZE, "bicubic")
            windows = None if scores.windows is None else scores.windows[number : number + 1]
            anomaly_map = upsample(patch_scores[number : number + 1], (SIZE, SIZE), windows)[0]
            rows.append([row.image_id, row.label, row.defect, role, float(image_scores[number])])
            title = f"{category}\n{row.defect}\n{role}: {image_scores[number]:.3g}"
            shown.append(Shown(image, mask, anomaly_map, (float(low), float(high)), title))
    _write_data(path, rows)
    draw_gallery(shown, f"{spec.title}: {catalogue.encoders[spec.encoder].title}, seed {spec.seed}", path)


def _write_data(path: Path, rows: list[list[object]]) -> None:
    """The images a gallery shows, beside it as CSV."""
    write_csv(path.with_suffix(".csv"), ["image_id", "label", "defect", "shown_as", "image_score"], rows)


def choose(
    rows: Sequence[Row], image_scores: np.ndarray, numbers: Sequence[int], random: int, seed: int
) -> dict[int, str]:
    """Of the images ``numbers``, which are shown and why: best, median and worst defective one, ``random`` others, and the
    highest normal one.
    """
    ranked = sorted(numbers, key=lambda number: (-image_scores[number], number))
    defective = [number for number in ranked if rows[number].label]
    normal = [number for number in ranked if not rows[number].label]
    chosen: dict[int, str] = {}
    if defective:
        places = {"best": 0, "median": (len(defective) - 1) // 2, "worst": len(defective) - 1}
        for role, place in places.items():
            chosen.setdefault(defective[place], role)
    left = sorted(set(defective) - set(chosen))
    generator = np.random.default_rng(seed)
    picked = generator.choice(left, min(random, len(left)), replace=False).tolist() if left else []
    chosen |= dict.fromkeys(picked, "random")
    return chosen | dict.fromkeys(normal[:1], "highest normal")


def draw_gallery(shown: Sequence[Shown], title: str, path: Path) -> None:
    """Rows of image, mask, anomaly map and overlay; many of them in two blocks side by side, the left one first."""
    heads = ("image", "mask", "anomaly map", "overlay")
    blocks = 2 if len(shown) > ROWS_IN_ONE_BLOCK else 1
    count = -(-len(shown) // blocks)
    with plt.rc_context(style.STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(
            count,
            blocks * len(heads),
            figsize=(style.COLUMN_WIDTH * (1.6 if blocks == 1 else 2.6), (1.32 if blocks == 1 else 0.98) * count),
            squeeze=False,
        )
        lines = [line[start : start + len(heads)] for start in range(0, axes.shape[1], len(heads)) for line in axes]
        for line in lines[len(shown) :]:
            for axis in line:
                axis.set_axis_off()
        for line, one in zip(lines, shown, strict=False):
            empty = np.zeros(one.image.shape[:2])
            low, high = one.scale
            line[0].imshow(one.image)
            line[1].imshow(empty if one.mask is None else one.mask, cmap="gray", vmin=0, vmax=1)
            line[2].imshow(one.anomaly_map, cmap=COLOURS, vmin=low, vmax=high)
            line[3].imshow(overlay(one.image, one.anomaly_map, one.scale))
            line[0].set_ylabel(one.title, rotation=0, ha="right", va="center", fontsize=7, labelpad=4)
            for axis in line:
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
        for axis, head in zip(axes[0], heads * blocks, strict=True):
            axis.set_title(head)
        figure.suptitle(title, fontsize=8)
        style.save(figure, path)


def overlay(image: np.ndarray, anomaly_map: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """``image`` [H,W,3] uint8 with the map [H,W] laid over it, the more opaque the higher, uint8."""
    low, high = scale
    heat = np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1)
    colours = plt.get_cmap(COLOURS)(heat)[..., :3] * 255
    opacity = (0.75 * heat)[..., None]
    return np.rint(image * (1 - opacity) + colours * opacity).astype(np.uint8)
