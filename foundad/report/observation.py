"""The founding observation (paper Fig. 2) as a figure: distances and residuals against the area of a pasted square."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt

from foundad import config
from foundad.failures import failure_of
from foundad.files import write_csv
from foundad.paths import Results
from foundad.plan.catalogue import Catalogue, named_cells
from foundad.report import style
from foundad.report.statistics import Interval, association
from foundad.sealed import read_parquet

MEASURES = {
    "distance": ("Embeddings", "distance / magnitude of tokens"),
    "residual": ("Trained projector", "mean residual (clean picture = 1)"),
}


def write_observation(results: Results, catalogue: Catalogue, spec: config.ObservationFigure, path: Path) -> None:
    """One row of panels a dataset: distance of embeddings and residual, mean over images with the middle 80 % shaded.

    Both are scaled by one number an encoder, so that encoders share an axis: neither Spearman's rho nor R^2 change.
    """
    rows: list[list[Any]] = []
    with plt.rc_context(style.STYLE):
        height = 2.7 * len(spec.datasets) + 0.3
        figure, axes = plt.subplots(len(spec.datasets), 2, figsize=(style.COLUMN_WIDTH * 2, height), squeeze=False)
        for line, dataset in zip(axes, spec.datasets, strict=True):
            for axis, (measure, (title, label)) in zip(line, MEASURES.items(), strict=True):
                for number, cell in enumerate(c for c in named_cells(spec) if c.dataset == dataset):
                    encoder, source = catalogue.encoders[cell.encoder].title, results.observation(cell)
                    if failure_of(source) is not None:
                        continue
                    found = scaled(read_parquet(source, "observation")[0].to_pandas(use_threads=False), measure)
                    grouped = found.groupby("area")["value"]
                    means, low, high = grouped.mean(), grouped.quantile(0.1), grouped.quantile(0.9)
                    rho, fit = association(*(found[name].tolist() for name in ("area", "value", "image_id")))
                    colour = style.PALETTE[number % len(style.PALETTE)]
                    name = f"{encoder}: $\\rho$ {_ends(rho)}, $R^2$ {_ends(fit)}"
                    marker = style.MARKERS[number % len(style.MARKERS)]
                    axis.plot(100 * means.index, means, color=colour, marker=marker, label=name)
                    axis.fill_between(100 * means.index, low, high, color=colour, alpha=0.15, linewidth=0)
                    images = found["image_id"].nunique()
                    ends = [end for _, interval in (rho, fit) for end in (interval.low, interval.high)]
                    for area in means.index:
                        values = [means[area], low[area], high[area], images, rho[0], *ends[:2], fit[0], *ends[2:]]
                        rows.append([dataset, cell.encoder, measure, area, *map(float, values)])
                axis.set(title=f"{catalogue.datasets[dataset].title}: {title}", ylabel=label)
                axis.set_xlabel("pasted area (% of the picture)")
                axis.legend(fontsize=5.5, loc="upper left")
                axis.set_ylim(0, axis.get_ylim()[1] * 1.25)
        figure.suptitle(
            f"{spec.title} ({spec.shots}-shot, seed {spec.seed}; intervals: bootstrap over images, 95 %)", fontsize=8
        )
        style.save(figure, path)
    head = ["dataset", "encoder", "measure", "area", "mean", "low10", "high90", "images"]
    statistics = [f"{name}{end}" for name in ("spearman", "r2") for end in ("", "_low", "_high")]
    write_csv(path.with_suffix(".csv"), [*head, *statistics], rows)


def scaled(observed: pd.DataFrame, measure: str) -> pd.DataFrame:
    """area, image_id and the value of ``measure`` over the mean magnitude or the mean residual of clean pictures."""
    clean = observed[observed["area"] == 0]
    unit = clean["magnitude"].mean() if measure == "distance" else clean["residual"].mean()
    return observed[["area", "image_id"]].assign(value=observed[measure] / unit)


def _ends(estimate: tuple[float, Interval]) -> str:
    value, interval = estimate
    return f"{value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
