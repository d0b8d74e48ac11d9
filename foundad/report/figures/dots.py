"""A metric as dots with their deviations, side by side for the values of two axes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from foundad.cells import CellAxis
from foundad.paths import Results
from foundad.report.aggregate import load, metric_name
from foundad.report.figures.base import Figure
from foundad.report.shown import Choosing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue
    from foundad.report.panels import Lines, Panels


class Dots(Choosing, Figure):
    """A metric as dots with deviations, one group per value of ``x``, one colour per line; panels as in curves."""

    kind: Literal["dots"]
    x: CellAxis
    lines: CellAxis = "method"
    metrics: list[str] = Field(min_length=1)

    @property
    def axes(self) -> set[str]:
        return {"dataset", self.x, self.lines}

    @property
    def metric_ids(self) -> Sequence[str]:
        return self.metrics

    def draw(self, results: Results, catalogue: "Catalogue", experiment: "Experiment", path: Path) -> None:
        """Draw means as dots and deviations over seeds as whiskers."""
        from foundad.report import panels

        frame, cells = load(results, catalogue, experiment), self.cells(catalogue.cells(experiment))
        xs = {cell: frame.title(self.x, getattr(cell, self.x)) for cell in cells}
        by_dataset = self.x != "dataset"
        found = panels.panels_of(frame, cells, self.metrics, self.lines, xs, by_dataset)
        _draw(found, panels.title_of(self.title, cells, self.metrics), path)
        panels.write_points(path, self.x, self.lines, found)


def _draw(found: "Panels", title: str, path: Path) -> None:
    """Draw a grid of panels with groups below each other; a panel does not repeat the group names of its left one."""
    from matplotlib import pyplot as plt

    from foundad.report import panels, style

    metrics = {metric for _, metric in found}
    names = list(dict.fromkeys(name for lines in found.values() for name in lines))
    most = max(
        (len({point[0] for points in lines.values() for point in points}) for lines in found.values()), default=1
    )
    with plt.rc_context(style.STYLE):
        figure, axes = panels.grid_of_panels(len(found), height=0.9 + most * max(0.22, 0.09 * len(names)))
        columns = panels.columns_of(len(found))
        for number, (axis, ((dataset, metric), lines)) in enumerate(zip(axes, found.items(), strict=False)):
            _fill(axis, lines, names)
            axis.set_xlabel(f"{metric_name(metric, metrics)} (%)")
            axis.set_title(dataset)
            if number % columns and axis.get_yticks().tolist() == axes[number - 1].get_yticks().tolist():
                axis.set_yticklabels([])
        panels.finish(figure, axes, title, path)


def _fill(axis: "Axes", lines: "Lines", names: Sequence[str]) -> None:
    """Fill one panel."""
    from foundad.report import style

    groups = list(dict.fromkeys(point[0] for points in lines.values() for point in points))
    for name, points in lines.items():
        number = names.index(name)
        axis.errorbar(
            [100 * mean for _, mean, *_ in points],
            # Lines are offset within a group, so that whiskers do not overlap.
            [groups.index(x) + 0.6 * ((number + 0.5) / len(names) - 0.5) for x, *_ in points],
            xerr=[100 * (deviation or 0) for *_, deviation, _ in points],
            label=name,
            color=style.PALETTE[number % len(style.PALETTE)],
            marker=style.MARKERS[number % len(style.MARKERS)],
            linestyle="none",
            capsize=1.5,
        )
    axis.set_yticks(range(len(groups)), groups)
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.grid(False, axis="y")
