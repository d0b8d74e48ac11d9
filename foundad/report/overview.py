"""Stage ``overview``: shows a dataset by sample images with outlines of their masks, counts, sizes and defect areas.

Reads a manifest and the pictures it names. Samples are chosen by rule: the first normal test image by id, and defective
ones at the quantiles of the defect area (of the order of ids if there are no masks).
"""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt

from foundad.data.counts import counts_of
from foundad.data.images import load_image, resize_square
from foundad.data.manifest import Manifest, Row
from foundad.data.masks import load_mask, resize_mask
from foundad.files import write_text
from foundad.report import style

if TYPE_CHECKING:
    from foundad.config.dataset import Dataset

SIZE = 160  # pixels per side of a sample
DEFECTIVE = 3  # samples per category
CATEGORIES = 16  # shown at most
OUTLINE = "#D55E00"


def write_overview(dataset: "Dataset", manifest: Manifest, root: Path, path: Path) -> None:
    """Draw ``path`` (.png, .pdf) and write the area of every defect beside it (.csv)."""
    areas = {row.image_id: _area(row, root, manifest) for row in manifest.test if row.label}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image_id", "category", "defect", "width", "height", "defect_area"])
    for row in manifest.test:
        if row.label:
            area = areas[row.image_id]
            writer.writerow(
                [row.image_id, row.category, row.defect, row.width, row.height, "" if area is None else repr(area)]
            )
    write_text(path.with_suffix(".csv"), out.getvalue())

    counts = counts_of(manifest.rows)
    shown = list(counts)[:CATEGORIES]
    with plt.rc_context(style.STYLE | {"axes.grid": False}):
        columns = 1 + DEFECTIVE + 1
        figure, axes = plt.subplots(
            len(shown), columns, figsize=(style.COLUMN_WIDTH * 2, 1.35 * len(shown) + 0.3), squeeze=False
        )
        for line, category in zip(axes, shown, strict=True):
            for axis in line:
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
            for axis, row in zip(line, samples(manifest, category, areas), strict=False):
                _draw(axis, row, root, manifest)
            sizes = {(row.width, row.height) for row in manifest.rows if row.category == category}
            widths, heights = zip(*sizes, strict=True)
            extent = f"{min(widths)}x{min(heights)}" + (
                f" to {max(widths)}x{max(heights)}" if len(sizes) > 1 else " px"
            )
            train, normal, defective = counts[category]
            label = f"{category}\n{train} for draws\n{normal} normal\n{defective} defective\n{extent}"
            line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=6, labelpad=4)
            known = [a for row in manifest.test if row.category == category and (a := areas.get(row.image_id))]
            _histogram(line[-1], np.array(known))
        axes[0][0].set_title("normal", fontsize=7)
        for axis in axes[0][1 : 1 + DEFECTIVE]:
            axis.set_title("defective", fontsize=7)
        axes[0][-1].set_title("defect area", fontsize=7)
        more = f", first {CATEGORIES} of {len(counts)} categories" if len(counts) > CATEGORIES else ""
        figure.suptitle(f"{dataset.title}{more}", fontsize=8)
        style.save(figure, path)


def samples(manifest: Manifest, category: str, areas: dict[str, float | None]) -> list[Row]:
    """The rows of ``category`` that are shown: one normal, then defective ones from smallest to largest defect."""
    rows = [row for row in manifest.test if row.category == category]
    normal = [row for row in rows if not row.label][:1]
    defective = [row for row in rows if row.label]
    defective.sort(key=lambda row: (areas[row.image_id] or 0.0, row.image_id))
    count = min(DEFECTIVE, len(defective))
    places = np.linspace(0, max(0, len(defective) - 1), count).round().astype(int).tolist()
    return [*normal, *(defective[place] for place in places)]


def _area(row: Row, root: Path, manifest: Manifest) -> float | None:
    """Share of the picture that its defect covers; None without a mask."""
    return None if row.mask_path is None else float(load_mask(root / row.mask_path, manifest.mask_threshold).mean())


def _draw(axis: plt.Axes, row: Row, root: Path, manifest: Manifest) -> None:
    axis.imshow(resize_square(load_image(root / row.image_path), SIZE, "bicubic"))
    if row.mask_path is not None:
        mask = resize_mask(load_mask(root / row.mask_path, manifest.mask_threshold), SIZE)
        if mask.any():
            axis.contour(mask, levels=[0.5], colors=OUTLINE, linewidths=0.9)
    axis.set_xlabel(row.defect, fontsize=6, labelpad=1)


def _histogram(axis: plt.Axes, areas: np.ndarray) -> None:
    if not len(areas):
        axis.text(0.5, 0.5, "no masks", ha="center", va="center", fontsize=6, transform=axis.transAxes)
        return
    # From a ten-thousandth of the picture to all of it, on a logarithmic axis.
    axis.hist(np.clip(areas, 1e-4, 1), bins=np.logspace(-4, 0, 17).tolist(), color=style.PALETTE[0])
    axis.set(xscale="log", xlim=(1e-4, 1), xticks=[1e-4, 1e-2, 1], xticklabels=["0.01 %", "1 %", "100 %"])
    axis.minorticks_off()
    axis.tick_params(labelsize=5, length=2)
    axis.spines["bottom"].set_visible(True)
