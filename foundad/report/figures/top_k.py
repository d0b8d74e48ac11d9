"""I-AUROC against the number of patches in an image score, from stored patch scores, without training or encoding."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from foundad.cells import Cell
from foundad.data.manifest import read_manifest
from foundad.failures import failure_of
from foundad.paths import Results
from foundad.report.figures.base import Figure
from foundad.report.shown import Choosing, Stage
from foundad.scores import read_scores, top_k_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue
    from foundad.report.panels import Lines, Panels

TICKS = (1, 2, 5, 10, 20, 50, 100, 200)  # labelled values on the logarithmic axis


class TopK(Choosing, Figure):
    """I-AUROC against the number of patches averaged into the image score, from the stored patch scores of cells."""

    redrawn: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("i_auroc",)

    kind: Literal["top-k"]
    values: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)

    @property
    def axes(self) -> set[str]:
        return {"dataset", "method"}

    def reads(self, selected: Sequence[Cell]) -> Mapping[Stage, Sequence[Cell]]:
        return {"fit": self.cells(selected)}

    def draw(self, results: Results, catalogue: "Catalogue", experiment: "Experiment", path: Path) -> None:
        """Draw the I-AUROC, mean over categories, of image scores computed anew from the stored patch scores."""
        from foundad.report import panels

        cells = self.cells(catalogue.cells(experiment))
        found: Panels = {}
        for (dataset, method, k), values in self._values(results, cells).items():
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            point = (k, float(np.mean(values)), deviation, len(values))
            panel = found.setdefault((catalogue.datasets[dataset].title, "i_auroc"), {})
            panel.setdefault(catalogue.methods[method].label, []).append(point)

        def fill(axis: "Axes", lines: "Lines", names: Sequence[str]) -> None:
            panels.curve(axis, lines, names)
            axis.set_xscale("log")
            axis.minorticks_off()
            ticks = [k for k in self.values if k in TICKS]
            axis.set_xticks(ticks, [str(tick) for tick in ticks])

        panels.draw_panels(found, panels.title_of(self.title, cells, []), "patches averaged (K)", fill, path)
        panels.write_points(path, "top_k", "method", found)

    def _values(self, results: Results, cells: Sequence[Cell]) -> dict[tuple[str, str, int], list[float]]:
        """(dataset, method, k) -> the I-AUROC of every seed; a k above the number of patches is left out."""
        from foundad.data.frame import patches_inside

        values: dict[tuple[str, str, int], list[float]] = {}
        for cell in cells:
            scores_path, manifest_path = (
                results.cell(cell) / "scores.safetensors",
                results.manifest(cell.dataset, "truth"),
            )
            if failure_of(scores_path) is not None or failure_of(manifest_path) is not None:
                continue
            test = read_manifest(manifest_path).test
            scores, _ = read_scores(scores_path, cell, [row.image_id for row in test])
            patch_scores = scores.patch_scores.reshape(len(test), -1)
            inside = patches_inside(scores.windows, scores.patch_scores.shape[1])
            labels, names = np.array([row.label for row in test]), np.array([row.category for row in test])
            for k in self.values:
                if k <= patch_scores.shape[1]:
                    found = macro_auroc(top_k_mean(patch_scores, k, inside), labels, names)
                    values.setdefault((cell.dataset, cell.method, k), []).append(found)
        return values


def macro_auroc(scores: np.ndarray, labels: np.ndarray, categories: np.ndarray) -> float:
    """Mean over categories of the I-AUROC of image ``scores`` [n]; categories without both labels are left out."""
    from foundad.metrics.ranking import auroc, order

    found = []
    for category in sorted(set(categories.tolist())):
        here = categories == category
        positives, negatives = scores[here & (labels == 1)], scores[here & (labels == 0)]
        if len(positives) and len(negatives):
            found.append(auroc(order(positives, negatives)))
    return float(np.mean(found))
