"""Stage ``figure``: one figure of an experiment as PNG and PDF, curves with their data as CSV beside them."""

import csv
import io

from matplotlib import pyplot as plt

from foundad import config
from foundad.catalogue import Catalogue
from foundad.files import write_text
from foundad.paths import Results
from foundad.report import style
from foundad.report.aggregate import Frame, load, metric_name, protocol, seeds_of
from foundad.report.gallery import write_gallery


def write_figure(results: Results, catalogue: Catalogue, experiment: config.Experiment, name: str) -> None:
    """Draw the figure ``name`` of ``experiment``."""
    figure = experiment.figures[name]
    path = results.figure(experiment.id, name, "png")
    if isinstance(figure, config.GalleryFigure):
        write_gallery(results, catalogue, figure, path)
    else:
        _write_shots(load(results, catalogue, experiment), figure, results, experiment.id, name)


def _write_shots(frame: Frame, spec: config.ShotsFigure, results: Results, experiment: str, name: str) -> None:
    """Mean and standard deviation over seeds against the number of shots."""
    cells = frame.cells(spec.where)
    methods = list(dict.fromkeys(cell.method for cell in cells))
    rows, panels = [], []
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        for metric in spec.metrics:
            lines = {}
            for method in methods:
                points = []
                for shots in sorted({cell.shots for cell in cells}):
                    found = [c for c in cells if (c.dataset, c.method, c.shots) == (dataset, method, shots)]
                    summary = frame.summary(found, metric)
                    if summary.mean is not None:
                        points.append((shots, summary.mean, summary.deviation or 0.0))
                        rows.append([dataset, metric, method, shots, summary.mean, summary.deviation, summary.n])
                if points:
                    lines[method] = points
            if lines:
                panels.append((dataset, metric, lines))
    with plt.rc_context(style.STYLE):
        count = max(1, len(panels))
        drawn, axes = plt.subplots(1, count, figsize=(style.COLUMN_WIDTH * max(1, count * 0.7), 2.5), squeeze=False)
        for axis, (dataset, metric, lines) in zip(axes[0], panels, strict=False):
            for number, method in enumerate(methods):
                if method not in lines:
                    continue
                counts, means, deviations = zip(*lines[method], strict=True)
                axis.errorbar(
                    counts,
                    [100 * mean for mean in means],
                    [100 * deviation for deviation in deviations],
                    label=frame.title("method", method),
                    color=style.PALETTE[number % len(style.PALETTE)],
                    marker=style.MARKERS[number % len(style.MARKERS)],
                    capsize=2,
                )
            axis.set_xscale("log", base=2)
            ticks = sorted({point[0] for points in lines.values() for point in points})
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
            axis.set_xlabel("normal images per category")
            axis.set_ylabel(f"{metric_name(metric)} (%)")
            axis.set_title(frame.title("dataset", dataset))
        handles, labels = axes[0][0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=min(4, max(1, len(labels))))
        used = protocol(spec.metrics)
        note = f", pixels: {used}" if used else ""
        drawn.suptitle(f"{spec.title} (mean ± deviation over {seeds_of(cells)} seeds{note})", fontsize=8)
        style.save(drawn, results.figure(experiment, name, "png"))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["dataset", "metric", "method", "shots", "mean", "std", "seeds"])
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    write_text(results.figure(experiment, name, "csv"), out.getvalue())
