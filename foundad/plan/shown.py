"""What tables and figures read, and the cells that they show."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from foundad import config
from foundad.paths import WHOLE, Cell
from foundad.plan.catalogue import chosen_cells, measured_cells, named_cells
from foundad.stages.base import Read

if TYPE_CHECKING:
    from foundad.plan.project import Project


def read_by_table(project: "Project", experiment: str, name: str) -> dict[str, Read]:
    """The collected metrics, or what was measured of the table's cells."""
    settings = project.experiment(experiment)
    project.known("table", name, settings.tables)
    table = settings.tables[name]
    if isinstance(table, config.EfficiencyTable):
        return _of("efficiency", "efficiency", measured_cells(project.catalogue.cells(settings), table.where))
    return _collected(settings)


def behind_table(project: "Project", experiment: str, name: str) -> dict[str, Read]:
    """The cells that the table shows, instead of all cells of the run."""
    settings = project.experiment(experiment)
    project.known("table", name, settings.tables)
    if isinstance(settings.tables[name], config.EfficiencyTable):
        return read_by_table(project, experiment, name) | _notes(settings)
    return _of("evaluate", "metrics", project.catalogue.cells(settings)) | _notes(settings)


def read_by_figure(project: "Project", experiment: str, name: str) -> dict[str, Read]:
    """The collected metrics, the scores of cells, or what was observed."""
    settings = project.experiment(experiment)
    project.known("figure", name, settings.figures)
    figure = settings.figures[name]
    if isinstance(figure, config.GalleryFigure):
        return _scores(named_cells(figure))
    if isinstance(figure, config.TopKFigure):
        return _scores(chosen_cells(project.catalogue.cells(settings), figure.where))
    if isinstance(figure, config.ObservationFigure):
        return _of("observe", "observation", named_cells(figure))
    return _collected(settings)


def behind_figure(project: "Project", experiment: str, name: str) -> dict[str, Read]:
    """The cells that the figure shows, instead of all cells of the run."""
    settings = project.experiment(experiment)
    found = read_by_figure(project, experiment, name)
    if "metrics" in found:
        found = _of("evaluate", "metrics", project.catalogue.cells(settings))
    return found | _notes(settings)


def _collected(experiment: config.Experiment) -> dict[str, Read]:
    """Metrics and records, and the manifests whose notes stand in captions."""
    return {"metrics": Read("collect", (), "metrics"), "runs": Read("collect", (), "runs")} | _notes(experiment)


def _notes(experiment: config.Experiment) -> dict[str, Read]:
    names = dict.fromkeys(name for grid in experiment.cells for name in grid.datasets)
    return {f"{file} {name}": Read("manifest", (name, WHOLE), file) for name in names for file in ("rows", "ledger")}


def _scores(cells: Iterable[Cell]) -> dict[str, Read]:
    cells = list(cells)
    truths = {f"truth {cell.dataset}": Read("manifest", (cell.dataset, "truth"), "rows") for cell in cells}
    return truths | _of("fit", "scores", cells)


def _of(stage: str, file: str, cells: Iterable[Cell]) -> dict[str, Read]:
    return {f"{stage} {cell}": Read(stage, tuple(vars(cell).values()), file) for cell in cells}
