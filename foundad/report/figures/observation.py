"""The founding observation (paper Fig. 2) as a figure: distances and residuals against the area of a pasted square."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from foundad.cells import Cell
from foundad.config.base import Id, VariantId
from foundad.failures import failure_of
from foundad.paths import Results
from foundad.report.figures.base import Figure
from foundad.report.numbers import write_csv
from foundad.report.shown import Naming, Stage
from foundad.sealed import read_parquet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue
    from foundad.report.statistics import Interval

MEASURES = {
    "distance": ("Embeddings", "distance / magnitude of tokens"),
    "residual": ("Trained projector", "mean residual (clean picture = 1)"),
}
STATISTICS = [f"{name}{end}" for name in ("spearman", "r2") for end in ("", "_low", "_high")]
HEAD = ["dataset", "encoder", "measure", "area", "mean", "low10", "high90", "images", *STATISTICS]


class Observation(Naming, Figure):
    """Distance of embeddings, and the residual of a trained projector, against the area of a pasted square."""

    kind: Literal["observation"]
    datasets: list[Id] = Field(min_length=1)
    encoders: list[VariantId] = Field(min_length=1)
    method: VariantId
    shots: int = Field(ge=1)
    seed: int = Field(0, ge=0)

    def cells(self, selected: Sequence[Cell]) -> list[Cell]:
        pairs = product(self.datasets, self.encoders)
        return [Cell(dataset, encoder, self.method, self.shots, self.seed) for dataset, encoder in pairs]

    def reads(self, selected: Sequence[Cell]) -> Mapping[Stage, Sequence[Cell]]:
        return {"observe": self.cells(selected)}

    def draw(self, results: Results, catalogue: "Catalogue", experiment: "Experiment", path: Path) -> None:
        """Draw one row of panels per dataset: distance of embeddings and residual, each as mean over images with the
        middle 80 % shaded.

        Each line is divided by one number, so that encoders share an axis; Spearman's rho and R^2 stay the same.
        """
        from matplotlib import pyplot as plt

        from foundad.report import style

        rows: list[list[Any]] = []
        with plt.rc_context(style.STYLE):
            height = 2.7 * len(self.datasets) + 0.3
            figure, axes = plt.subplots(len(self.datasets), 2, figsize=(style.COLUMN_WIDTH * 2, height), squeeze=False)
            for line, dataset in zip(axes, self.datasets, strict=True):
                for axis, (measure, (title, label)) in zip(line, MEASURES.items(), strict=True):
                    for number, cell in enumerate(c for c in self.cells(()) if c.dataset == dataset):
                        source = results.observation(cell)
                        if failure_of(source) is None:
                            observed = read_parquet(source, "observation")[0].to_pandas(use_threads=False)
                            name = catalogue.encoders[cell.encoder].title
                            found = _draw_line(axis, scaled(observed, measure), name, number)
                            rows += [[dataset, cell.encoder, measure, *values] for values in found]
                    axis.set(title=f"{catalogue.datasets[dataset].title}: {title}", ylabel=label)
                    axis.set_xlabel("pasted area (% of the picture)")
                    axis.legend(fontsize=5.5, loc="upper left")
                    axis.set_ylim(0, axis.get_ylim()[1] * 1.25)
            figure.suptitle(
                f"{self.title} ({self.shots}-shot, seed {self.seed}; intervals: bootstrap over images, 95 %)",
                fontsize=8,
            )
            style.save(figure, path)
        write_csv(path.with_suffix(".csv"), HEAD, rows)


def _draw_line(axis: "Axes", found: "pd.DataFrame", encoder: str, number: int) -> list[list[float]]:
    """Draw one encoder's line in the colour ``number``; returns its points, columns of :data:`HEAD` from area on."""
    from foundad.report import style
    from foundad.report.statistics import association

    grouped = found.groupby("area")["value"]
    means, low, high = grouped.mean(), grouped.quantile(0.1), grouped.quantile(0.9)
    rho, fit = association(*(found[name].tolist() for name in ("area", "value", "image_id")))
    colour, marker = style.PALETTE[number % len(style.PALETTE)], style.MARKERS[number % len(style.MARKERS)]
    name = f"{encoder}: $\\rho$ {_ends(rho)}, $R^2$ {_ends(fit)}"
    axis.plot(100 * means.index, means, color=colour, marker=marker, label=name)
    axis.fill_between(100 * means.index, low, high, color=colour, alpha=0.15, linewidth=0)
    images = found["image_id"].nunique()
    statistics = [value for estimate, ends in (rho, fit) for value in (estimate, ends.low, ends.high)]
    return [[area, *map(float, (means[area], low[area], high[area], images, *statistics))] for area in means.index]


def scaled(observed: "pd.DataFrame", measure: str) -> "pd.DataFrame":
    """area, image_id and value: ``measure`` divided by the mean magnitude or the mean residual of clean pictures."""
    clean = observed[observed["area"] == 0]
    unit = clean["magnitude"].mean() if measure == "distance" else clean["residual"].mean()
    return observed[["area", "image_id"]].assign(value=observed[measure] / unit)


def _ends(estimate: tuple[float, "Interval"]) -> str:
    value, interval = estimate
    return f"{value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
