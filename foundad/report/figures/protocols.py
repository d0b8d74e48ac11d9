"""What the protocol changes: the same scores under both protocols, category by category."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from foundad.cells import Cell
from foundad.names import nearest
from foundad.paths import Results
from foundad.report.aggregate import Frame, load, metric_name, seeds_of
from foundad.report.figures.base import Figure
from foundad.report.numbers import write_csv
from foundad.report.shown import Choosing, Problem
from foundad.yamlfile import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue

HEAD = ["dataset", "category", "method", "metric", "strict", "released", "seeds"]
Rows = list[list[Any]]  # columns of HEAD


class Protocols(Choosing, Figure):
    """The same scores under both protocols: each category's released value against its strict one."""

    kind: Literal["protocols"]
    metrics: list[str] = Field(
        ["p_auroc", "aupro_30"], min_length=1, description="names of pixel metrics that both protocols have"
    )

    @property
    def axes(self) -> set[str]:
        return {"dataset", "method"}

    def problems(self, selected: Sequence[Cell], catalogue: "Catalogue") -> Iterator[Problem]:
        both = _under_both()
        for metric in self.metrics:
            if metric not in both:
                yield Problem("metrics", f"there is no metric {shown(metric)}{nearest(metric, both)}")
        yield from super().problems(selected, catalogue)

    def draw(self, results: Results, catalogue: "Catalogue", experiment: "Experiment", path: Path) -> None:
        """Draw one point per category: the mean over seeds under both protocols, with the diagonal of equality."""
        from matplotlib import pyplot as plt

        from foundad.report import panels, style

        frame, cells = load(results, catalogue, experiment), self.cells(catalogue.cells(experiment))
        rows: Rows = []
        with plt.rc_context(style.STYLE):
            figure, axes = panels.grid_of_panels(len(self.metrics))
            for axis, metric in zip(axes, self.metrics, strict=False):
                found = _points(frame, cells, metric)
                _fill(axis, found, {name: frame.title("method", name) for name in _methods(cells)})
                name = metric_name(f"strict/{metric}")
                axis.set(title=name, xlabel="strict (%)", ylabel="released (%)", aspect="equal")
                rows += found
            panels.legend(figure, axes)
            figure.suptitle(f"{self.title} (one point per category, mean over {seeds_of(cells)} seeds)", fontsize=8)
            style.save(figure, path)
        write_csv(path.with_suffix(".csv"), HEAD, rows)


def _under_both() -> set[str]:
    """Names of the pixel metrics that every protocol has."""
    from foundad.metrics.metric import PROTOCOLS
    from foundad.metrics.registry import METRICS

    shares = [name for name, metric in METRICS.items() if metric.unit == "share"]
    return set.intersection(
        *({name.rpartition("/")[2] for name in shares if name.startswith(f"{p}/")} for p in PROTOCOLS)
    )


def _methods(cells: list[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.method for cell in cells))


def _points(frame: Frame, cells: list[Cell], metric: str) -> Rows:
    """One row per method, dataset and category that has a value under both protocols."""
    rows: Rows = []
    for method in _methods(cells):
        for dataset in dict.fromkeys(cell.dataset for cell in cells):
            here = [c for c in cells if (c.dataset, c.method) == (dataset, method)]
            for category in frame.categories(here):
                strict, released = (
                    frame.summary(here, f"{name}/{metric}", category) for name in ("strict", "released")
                )
                if strict.mean is not None and released.mean is not None:
                    rows.append([dataset, category, method, metric, strict.mean, released.mean, strict.n])
    return rows


def _fill(axis: "Axes", rows: Rows, titles: dict[str, str]) -> None:
    """Fill one panel; ``titles`` are those of the methods, in the order of their colours."""
    from foundad.report import style

    for number, (method, title) in enumerate(titles.items()):
        points = [(100 * strict, 100 * released) for _, _, name, _, strict, released, _ in rows if name == method]
        if points:
            axis.scatter(
                [strict for strict, _ in points],
                [released for _, released in points],
                s=14,
                label=title,
                color=style.PALETTE[number % len(style.PALETTE)],
                marker=style.MARKERS[number % len(style.MARKERS)],
            )
    if rows:
        low = min(100 * min(strict, released) for *_, strict, released, _ in rows) - 2
        axis.plot([low, 100], [low, 100], color="0.6", linewidth=0.8, zorder=0)
