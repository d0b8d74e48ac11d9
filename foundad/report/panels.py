"""What figures of metrics share: panels of lines with one legend, and the CSV of their points.

Numbers come from :mod:`foundad.report.aggregate`.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foundad.cells import Cell
from foundad.report import style
from foundad.report.aggregate import Frame, metric_name, protocol, seeds_of
from foundad.report.numbers import write_csv

Point = tuple[Any, float, float | None, int]  # x, mean, deviation, seeds
Lines = dict[str, list[Point]]  # by the title of the line
Panels = dict[tuple[str, str], Lines]  # by the title of the dataset, which may be empty, and the metric
PANELS_A_ROW = 3


def panels_of(
    frame: Frame,
    cells: Sequence[Cell],
    metrics: Sequence[str],
    lines: str,
    xs: Mapping[Cell, Any],
    by_dataset: bool = True,
) -> Panels:
    """One panel per dataset and metric; one per metric if the datasets are lines, or not ``by_dataset``.

    lines: the axis whose values are the lines. xs: the horizontal position of every cell; numbers are sorted.
    """
    panels: Panels = {}
    by_dataset = by_dataset and lines != "dataset"
    for dataset in dict.fromkeys(cell.dataset if by_dataset else "" for cell in cells):
        for metric in metrics:
            here = [cell for cell in cells if dataset in ("", cell.dataset)]
            found: Lines = {}
            for value in dict.fromkeys(getattr(cell, lines) for cell in here):
                line = [cell for cell in here if getattr(cell, lines) == value]
                points = []
                for x in (
                    sorted({xs[cell] for cell in line}) if _numeric(xs.values()) else dict.fromkeys(map(xs.get, line))
                ):
                    summary = frame.summary([cell for cell in line if xs[cell] == x], metric)
                    if summary.mean is not None:
                        points.append((x, summary.mean, summary.deviation, summary.n))
                if points:
                    found[frame.title(lines, value)] = points
            if found:
                panels[frame.title("dataset", dataset) if dataset else "", metric] = found
    return panels


def _numeric(values: Any) -> bool:
    return all(isinstance(value, int | float) for value in values)


def draw_panels(panels: Panels, title: str, label: str, draw: Callable[..., None], path: Path) -> None:
    """Draw a grid of panels with one legend below. ``draw(axis, lines, names of all lines)`` fills each of them."""
    metrics = {metric for _, metric in panels}
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    with plt.rc_context(style.STYLE):
        figure, axes = grid_of_panels(len(panels))
        for axis, ((dataset, metric), lines) in zip(axes, panels.items(), strict=False):
            draw(axis, lines, names)
            axis.set_xlabel(label)
            axis.set_ylabel(f"{metric_name(metric, metrics)} (%)")
            axis.set_title(dataset)
        finish(figure, axes, title, path)


def finish(figure: Figure, axes: Sequence[Axes], title: str, path: Path) -> None:
    """Add legend and title, and write the files of the figure."""
    legend(figure, axes)
    figure.suptitle(title, fontsize=8)
    style.save(figure, path)


def columns_of(count: int) -> int:
    """Panels per row: up to :data:`PANELS_A_ROW`; four panels are two by two."""
    return 2 if count == 4 else min(PANELS_A_ROW, max(1, count))


def grid_of_panels(count: int, height: float = 2.1) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes of ``height`` inches in rows, each readable at column width."""
    columns = columns_of(count)
    rows = -(-max(1, count) // columns)
    width = style.COLUMN_WIDTH * (1 if columns == 1 else 0.68 * columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows + 0.5), squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat)


def curve(axis: Axes, lines: Lines, names: Sequence[str]) -> None:
    """Draw means with deviations as whiskers; a line's position in ``names`` sets its colour."""
    ticks = list(dict.fromkeys(point[0] for points in lines.values() for point in points))
    numeric = _numeric(ticks)
    if numeric:
        ticks.sort()
    for name, points in lines.items():
        xs, means, deviations, _ = zip(*points, strict=True)
        number = names.index(name)
        axis.errorbar(
            xs if numeric else [ticks.index(x) for x in xs],
            [100 * mean for mean in means],
            [100 * (deviation or 0) for deviation in deviations],
            label=name,
            color=style.PALETTE[number % len(style.PALETTE)],
            marker=style.MARKERS[number % len(style.MARKERS)],
            capsize=2,
        )
    # Values that grow by factors are evenly spaced on a logarithmic axis.
    if numeric and min(ticks) > 0 and len(ticks) > 2 and all(b / a >= 1.4 for a, b in pairwise(ticks)):
        axis.set_xscale("log", base=2)
        axis.minorticks_off()
    axis.set_xticks(ticks if numeric else range(len(ticks)), [f"{tick:g}" if numeric else str(tick) for tick in ticks])


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend of all ``axes`` below them."""
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if found:
        longest = max(map(len, found))
        columns = max(1, int(figure.get_figwidth() / (0.4 + 0.065 * longest)))
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=min(columns, len(found)))


def title_of(title: str, cells: Sequence[Cell], metrics: Sequence[str]) -> str:
    """``title`` with the number of seeds and the protocols."""
    used = protocol(metrics)
    note = f", pixels: {used}" if used else ""
    seeds = seeds_of(cells)
    return f"{title} ({f'mean ± deviation over {seeds} seeds' if seeds > 1 else 'one seed'}{note})"


def write_points(path: Path, x: str, line: str, panels: Panels) -> None:
    """Write the CSV beside ``path``, one row per point: panel, metric, the axis of lines, x, mean, std, seeds."""
    rows = [
        [dataset, metric, name, *point]
        for (dataset, metric), lines in panels.items()
        for name, points in lines.items()
        for point in points
    ]
    line = line if x != line else f"{line}_"
    write_csv(path.with_suffix(".csv"), ["panel", "metric", line, x, "mean", "std", "seeds"], rows)
