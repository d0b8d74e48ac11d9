"""Heatmaps: image, mask, anomaly map and overlay of test images.

Images are chosen by rule, not by eye: per category the defective ones with the highest, the median and the lowest
score, some at random, and the normal one with the highest score. There is one colour scale per category.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from foundad.cells import Cell
from foundad.config.base import Id, VariantId
from foundad.data.manifest import Manifest, Row, read_manifest
from foundad.failures import failure_of, require
from foundad.paths import Results
from foundad.report.figures.base import Figure
from foundad.report.numbers import write_csv
from foundad.report.shown import Naming, Stage
from foundad.scores import Scores, read_scores

if TYPE_CHECKING:
    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue

SIZE = 224  # pixels per side of a picture
ROWS_IN_ONE_BLOCK = 8
HEAD = ["image_id", "label", "defect", "shown_as", "image_score"]


class Gallery(Naming, Figure):
    """Image, mask, anomaly map and overlay of test images, chosen by rule."""

    photographs: ClassVar[bool] = True

    kind: Literal["gallery"]
    dataset: Id
    encoder: VariantId
    method: VariantId
    shots: int = Field(ge=1)
    seed: int = Field(0, ge=0)
    random: int = Field(1, ge=0, description="defective images per category beside the best, median and worst one")

    def cells(self, selected: Sequence[Cell]) -> list[Cell]:
        return [Cell(self.dataset, self.encoder, self.method, self.shots, self.seed)]

    def reads(self, selected: Sequence[Cell]) -> Mapping[Stage, Sequence[Cell]]:
        return {"fit": self.cells(selected)}

    def draw(self, results: Results, catalogue: "Catalogue", experiment: "Experiment", path: Path) -> None:
        """Draw the gallery of one cell; for a failed cell the figure says why it failed."""
        from foundad.data.location import image_root

        (cell,) = self.cells(())
        scores_path, manifest_path = results.cell(cell) / "scores.safetensors", results.manifest(self.dataset, "truth")
        reason = failure_of(scores_path)
        if reason is not None:
            _draw_failure(f"{cell} failed:\n{reason}", path)
            write_csv(path.with_suffix(".csv"), HEAD, [])
            return
        require([manifest_path])
        manifest = read_manifest(manifest_path)
        scores, _ = read_scores(scores_path, cell, [row.image_id for row in manifest.test])
        roles: dict[int, str] = {}
        scales: dict[str, tuple[float, float]] = {}
        for category in sorted({row.category for row in manifest.test}):
            numbers = [n for n, row in enumerate(manifest.test) if row.category == category]
            scales[category] = _scale(scores, numbers)
            roles |= choose(manifest.test, scores.image_scores, numbers, self.random, self.seed)
        root = image_root(results.located(catalogue.datasets[self.dataset]))
        examples = [
            _example(manifest, root, scores, number, role, scales[manifest.test[number].category])
            for number, role in roles.items()
        ]
        rows = [
            [row.image_id, row.label, row.defect, role, float(scores.image_scores[number])]
            for number, role in roles.items()
            for row in [manifest.test[number]]
        ]
        write_csv(path.with_suffix(".csv"), HEAD, rows)
        draw_gallery(examples, f"{self.title}: {catalogue.encoders[self.encoder].title}, seed {self.seed}", path)


@dataclass(frozen=True)
class Example:
    """One row of a gallery: image [S,S,3] uint8, mask [S,S] or None, map [S,S] float32, the ends of the colour scale,
    and the text beside it."""

    image: np.ndarray
    mask: np.ndarray | None
    anomaly_map: np.ndarray
    scale: tuple[float, float]
    title: str


def _scale(scores: Scores, numbers: Sequence[int]) -> tuple[float, float]:
    """Ends of the colour scale of the images ``numbers``: percentiles 1 and 99.9 of their scores without padding."""
    from foundad.data.frame import patches_inside

    seen, inside = scores.patch_scores[numbers].ravel(), patches_inside(scores.windows, scores.patch_scores.shape[1])
    low, high = np.percentile(seen if inside is None else seen[inside[numbers].ravel()], [1, 99.9])
    return float(low), float(high)


def _example(
    manifest: Manifest, root: Path, scores: Scores, number: int, role: str, scale: tuple[float, float]
) -> Example:
    """Image ``number``, read and resized to :data:`SIZE`."""
    from foundad.data.images import load_image, resize_square
    from foundad.data.masks import load_mask, resize_mask
    from foundad.metrics.maps import upsample

    row, mask = manifest.test[number], None
    if row.mask_path is not None:
        mask = resize_mask(load_mask(root / row.mask_path, manifest.mask_threshold), SIZE)
    image = resize_square(load_image(root / row.image_path), SIZE, "bicubic")
    windows = None if scores.windows is None else scores.windows[number : number + 1]
    anomaly_map = upsample(scores.patch_scores[number : number + 1], (SIZE, SIZE), windows)[0]
    title = f"{row.category}\n{row.defect}\n{role}: {scores.image_scores[number]:.3g}"
    return Example(image, mask, anomaly_map, scale, title)


def choose(
    rows: Sequence[Row], image_scores: np.ndarray, numbers: Sequence[int], random: int, seed: int
) -> dict[int, str]:
    """Which of the images ``numbers`` are shown, and why: the best, median and worst defective one, ``random`` others,
    and the highest normal one.
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


def draw_gallery(examples: Sequence[Example], title: str, path: Path) -> None:
    """Draw rows of image, mask, anomaly map and overlay; many rows are split into two blocks side by side."""
    from matplotlib import pyplot as plt

    from foundad.report import style
    from foundad.report.overlay import COLOURS, overlay

    heads = ("image", "mask", "anomaly map", "overlay")
    blocks = 2 if len(examples) > ROWS_IN_ONE_BLOCK else 1
    count = -(-len(examples) // blocks)
    with plt.rc_context(style.STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(
            count,
            blocks * len(heads),
            figsize=(style.COLUMN_WIDTH * (1.6 if blocks == 1 else 2.6), (1.32 if blocks == 1 else 0.98) * count),
            squeeze=False,
        )
        lines = [line[start : start + len(heads)] for start in range(0, axes.shape[1], len(heads)) for line in axes]
        for line in lines[len(examples) :]:
            for axis in line:
                axis.set_axis_off()
        for line, one in zip(lines, examples, strict=False):
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


def _draw_failure(text: str, path: Path) -> None:
    from matplotlib import pyplot as plt

    from foundad.report import style

    with plt.rc_context(style.STYLE):
        figure = plt.figure(figsize=(style.COLUMN_WIDTH, 1))
        figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
        style.save(figure, path)
