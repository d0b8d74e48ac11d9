"""Stage ``figure``: one figure of an experiment as PNG and PDF, with its data as CSV beside it.

Curves, dots, protocols and the sweep of top K are here; galleries and the observation have files of their own. Numbers come
from :mod:`foundad.report.aggregate`.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foundad import config
from foundad.data.frame import patches_inside
from foundad.data.manifest import read_manifest
from foundad.failures import failure_of
from foundad.files import write_csv
from foundad.metrics.ranking import auroc, order
from foundad.paths import Cell, Results
from foundad.plan.catalogue import Catalogue, chosen_cells, swept
from foundad.report import style
from foundad.report.aggregate import Frame, load, metric_name, protocol, seeds_of
from foundad.report.gallery import write_gallery
from foundad.report.observation import write_observation
from foundad.scores import read_scores, top_k_mean

Point = tuple[Any, float, float | None, int]  # x, mean, deviation, seeds
Lines = dict[str, list[Point]]  # by the title of the line
PANELS_A_ROW = 3


def write_figure(results: Results, catalogue: Catalogue, experiment: config.Experiment, name: str) -> None:
    """Draw the figure ``name`` of ``experiment``."""
    figure = experiment.figures[name]
    path = results.figure(experiment.id, name, "png")
    if isinstance(figure, config.GalleryFigure):
        write_gallery(results, catalogue, figure, path)
    elif isinstance(figure, config.ObservationFigure):
        write_observation(results, catalogue, figure, path)
    elif isinstance(figure, config.TopKFigure):
        _write_top_k(results, catalogue, experiment, figure, path)
    else:
        frame = load(results, catalogue, experiment)
        draw: Mapping[type, Callable[[Frame, Any, Path], None]] = {
            config.CurveFigure: _write_curve,
            config.DotsFigure: _write_dots,
            config.ProtocolsFigure: _write_protocols,
        }
        draw[type(figure)](frame, figure, path)


# ---------------------------------------------------------------------------------------------------- curves and dots


def _write_curve(frame: Frame, spec: config.CurveFigure, path: Path) -> None:
    """Mean and standard deviation over seeds against what is swept."""
    cells = frame.cells(spec.where)
    xs = {cell: swept(frame.catalogue, cell, spec.x) for cell in cells}
    panels = _panels(frame, cells, spec.metrics, spec.lines, xs)
    _draw_panels(panels, _title(spec.title, cells, spec.metrics), spec.label or spec.x, _curve, path)
    _write_points(path, spec.x, spec.lines, panels)


def _write_dots(frame: Frame, spec: config.DotsFigure, path: Path) -> None:
    """Means as dots, deviations over seeds as whiskers."""
    cells = frame.cells(spec.where)
    xs = {cell: frame.title(spec.x, getattr(cell, spec.x)) for cell in cells}
    panels = _panels(frame, cells, spec.metrics, spec.lines, xs, by_dataset=spec.x != "dataset")
    _draw_dots(panels, _title(spec.title, cells, spec.metrics), path)
    _write_points(path, spec.x, spec.lines, panels)


def _panels(
    frame: Frame,
    cells: Sequence[Cell],
    metrics: Sequence[str],
    lines: str,
    xs: Mapping[Cell, Any],
    by_dataset: bool = True,
) -> dict[tuple[str, str], Lines]:
    """(dataset title, metric) -> lines; one panel a metric where the datasets are lines."""
    panels: dict[tuple[str, str], Lines] = {}
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


def _draw_panels(
    panels: Mapping[tuple[str, str], Lines], title: str, label: str, draw: Callable[..., None], path: Path
) -> None:
    """A grid of panels with one legend below."""
    metrics = {metric for _, metric in panels}
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    with plt.rc_context(style.STYLE):
        figure, axes = grid_of_panels(len(panels))
        for axis, ((dataset, metric), lines) in zip(axes, panels.items(), strict=False):
            draw(axis, lines, names)
            axis.set_xlabel(label)
            axis.set_ylabel(f"{metric_name(metric, metrics)} (%)")
            axis.set_title(dataset)
        _finish(figure, axes, title, path)


def _draw_dots(panels: Mapping[tuple[str, str], Lines], title: str, path: Path) -> None:
    """A grid of panels, groups below each other; as high as they need, their names at the left of a row alone."""
    metrics = {metric for _, metric in panels}
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    most = max(
        (len({point[0] for points in lines.values() for point in points}) for lines in panels.values()), default=1
    )
    with plt.rc_context(style.STYLE):
        figure, axes = grid_of_panels(len(panels), height=0.9 + most * max(0.22, 0.09 * len(names)))
        columns = columns_of(len(panels))
        for number, (axis, ((dataset, metric), lines)) in enumerate(zip(axes, panels.items(), strict=False)):
            _dots(axis, lines, names)
            axis.set_xlabel(f"{metric_name(metric, metrics)} (%)")
            axis.set_title(dataset)
            if number % columns and axis.get_yticks().tolist() == axes[number - 1].get_yticks().tolist():
                axis.set_yticklabels([])
        _finish(figure, axes, title, path)


def _finish(figure: Figure, axes: Sequence[Axes], title: str, path: Path) -> None:
    _legend(figure, axes)
    figure.suptitle(title, fontsize=8)
    style.save(figure, path)


def columns_of(count: int) -> int:
    """Panels in a row: up to :data:`PANELS_A_ROW`, and four as two by two."""
    return 2 if count == 4 else min(PANELS_A_ROW, max(1, count))


def grid_of_panels(count: int, height: float = 2.1) -> tuple[Figure, list[Axes]]:
    """So many axes of ``height`` inches in rows, each readable at column width."""
    columns = columns_of(count)
    rows = -(-max(1, count) // columns)
    width = style.COLUMN_WIDTH * (1 if columns == 1 else 0.68 * columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows + 0.5), squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat)


def _curve(axis: Axes, lines: Lines, names: Sequence[str]) -> None:
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
    # Steps of a factor are even on a logarithmic axis.
    if numeric and min(ticks) > 0 and len(ticks) > 2 and all(b / a >= 1.4 for a, b in pairwise(ticks)):
        axis.set_xscale("log", base=2)
        axis.minorticks_off()
    axis.set_xticks(ticks if numeric else range(len(ticks)), [f"{tick:g}" if numeric else str(tick) for tick in ticks])


def _dots(axis: Axes, lines: Lines, names: Sequence[str]) -> None:
    groups = list(dict.fromkeys(point[0] for points in lines.values() for point in points))
    for name, points in lines.items():
        number = names.index(name)
        axis.errorbar(
            [100 * mean for _, mean, *_ in points],
            # Beside each other within a group, so that whiskers do not cover one another.
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


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if found:
        longest = max(map(len, found))
        columns = max(1, int(figure.get_figwidth() / (0.4 + 0.065 * longest)))
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=min(columns, len(found)))


def _title(title: str, cells: Sequence[Cell], metrics: Sequence[str]) -> str:
    used = protocol(metrics)
    note = f", pixels: {used}" if used else ""
    seeds = seeds_of(cells)
    return f"{title} ({f'mean ± deviation over {seeds} seeds' if seeds > 1 else 'one seed'}{note})"


def _write_points(path: Path, x: str, line: str, panels: Mapping[tuple[str, str], Lines]) -> None:
    rows = [
        [dataset, metric, name, *point]
        for (dataset, metric), lines in panels.items()
        for name, points in lines.items()
        for point in points
    ]
    line = line if x != line else f"{line}_"
    write_csv(path.with_suffix(".csv"), ["panel", "metric", line, x, "mean", "std", "seeds"], rows)


# ---------------------------------------------------------------------------------------------------- protocols


def _write_protocols(frame: Frame, spec: config.ProtocolsFigure, path: Path) -> None:
    """A point a category: the mean over seeds under both protocols; equality is the diagonal."""
    cells = frame.cells(spec.where)
    methods = list(dict.fromkeys(cell.method for cell in cells))
    rows: list[list[Any]] = []
    with plt.rc_context(style.STYLE):
        figure, axes = grid_of_panels(len(spec.metrics))
        for axis, metric in zip(axes, spec.metrics, strict=False):
            found = []
            for number, method in enumerate(methods):
                for dataset in dict.fromkeys(cell.dataset for cell in cells):
                    here = [c for c in cells if (c.dataset, c.method) == (dataset, method)]
                    for category in frame.categories(here):
                        pair = [frame.summary(here, f"{name}/{metric}", category) for name in ("strict", "released")]
                        if pair[0].mean is not None and pair[1].mean is not None:
                            found.append((number, 100 * pair[0].mean, 100 * pair[1].mean))
                            rows.append([dataset, category, method, metric, pair[0].mean, pair[1].mean, pair[0].n])
            for number, method in enumerate(methods):
                points = [point[1:] for point in found if point[0] == number]
                if points:
                    axis.scatter(
                        [strict for strict, _ in points],
                        [released for _, released in points],
                        s=14,
                        label=frame.title("method", method),
                        color=style.PALETTE[number % len(style.PALETTE)],
                        marker=style.MARKERS[number % len(style.MARKERS)],
                    )
            if found:
                low = min(min(point[1:]) for point in found) - 2
                axis.plot([low, 100], [low, 100], color="0.6", linewidth=0.8, zorder=0)
            name = metric_name(f"strict/{metric}")
            axis.set(title=name, xlabel="strict (%)", ylabel="released (%)", aspect="equal")
        _legend(figure, axes)
        figure.suptitle(f"{spec.title} (a point a category, mean over {seeds_of(cells)} seeds)", fontsize=8)
        style.save(figure, path)
    head = ["dataset", "category", "method", "metric", "strict", "released", "seeds"]
    write_csv(path.with_suffix(".csv"), head, rows)


# ---------------------------------------------------------------------------------------------------- top K


def _write_top_k(
    results: Results, catalogue: Catalogue, experiment: config.Experiment, spec: config.TopKFigure, path: Path
) -> None:
    """I-AUROC, mean over categories, of image scores that are made anew from the stored patch scores."""
    cells = chosen_cells(catalogue.cells(experiment), spec.where)
    values: dict[tuple[str, str, int], list[float]] = {}
    for cell in cells:
        scores_path, manifest_path = results.cell(cell) / "scores.safetensors", results.manifest(cell.dataset, "truth")
        if failure_of(scores_path) is not None or failure_of(manifest_path) is not None:
            continue
        test = read_manifest(manifest_path).test
        scores, _ = read_scores(scores_path, cell, [row.image_id for row in test])
        patch_scores = scores.patch_scores.reshape(len(test), -1)
        inside = patches_inside(scores.windows, scores.patch_scores.shape[1])
        labels, names = np.array([row.label for row in test]), np.array([row.category for row in test])
        for k in spec.values:
            if k <= patch_scores.shape[1]:
                found = macro_auroc(top_k_mean(patch_scores, k, inside), labels, names)
                values.setdefault((cell.dataset, cell.method, k), []).append(found)
    panels: dict[tuple[str, str], Lines] = {}
    for (dataset, method, k), found_values in values.items():
        deviation = float(np.std(found_values, ddof=1)) if len(found_values) > 1 else None
        point = (k, float(np.mean(found_values)), deviation, len(found_values))
        panel = panels.setdefault((catalogue.datasets[dataset].title, "i_auroc"), {})
        panel.setdefault(catalogue.methods[method].label, []).append(point)

    def draw(axis: Axes, lines: Lines, names: Sequence[str]) -> None:
        _curve(axis, lines, names)
        axis.set_xscale("log")
        axis.minorticks_off()
        ticks = [k for k in spec.values if k in (1, 2, 5, 10, 20, 50, 100, 200)]
        axis.set_xticks(ticks, [str(tick) for tick in ticks])

    _draw_panels(panels, _title(spec.title, cells, []), "patches averaged (K)", draw, path)
    _write_points(path, "top_k", "method", panels)


def macro_auroc(scores: np.ndarray, labels: np.ndarray, categories: np.ndarray) -> float:
    """Mean over categories of the I-AUROC of image ``scores`` [n]; categories without both labels are left out."""
    found = []
    for category in sorted(set(categories.tolist())):
        here = categories == category
        positives, negatives = scores[here & (labels == 1)], scores[here & (labels == 0)]
        if len(positives) and len(negatives):
            found.append(auroc(order(positives, negatives)))
    return float(np.mean(found))
