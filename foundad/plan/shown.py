"""The files that tables and figures read, and the jobs that they rest on, by what their kind says that it reads."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from foundad.cells import Cell
from foundad.config.experiment import Experiment
from foundad.paths import WHOLE
from foundad.report.shown import Shown
from foundad.stages.base import Read

if TYPE_CHECKING:
    from foundad.plan.project import Project

FILES = {"evaluate": "metrics", "fit": "scores", "observe": "observation", "efficiency": "efficiency"}


def read_by(project: "Project", experiment: Experiment, spec: Shown) -> dict[str, Read]:
    """Collected metrics with the notes of manifests; scores of cells with their ground truth; what was measured of cells."""
    found: dict[str, Read] = {}
    for stage, cells in spec.reads(project.catalogue.cells(experiment)).items():
        if stage == "evaluate":
            found |= {"metrics": Read("collect", (), "metrics"), "runs": Read("collect", (), "runs")} | _notes(
                experiment
            )
        else:
            found |= _of(stage, cells)
    return found


def behind(project: "Project", experiment: Experiment, spec: Shown) -> dict[str, Read]:
    """As :func:`read_by`, but the cells that are shown instead of all cells of the run, and notes whatever is shown."""
    found = _notes(experiment)
    for stage, cells in spec.reads(project.catalogue.cells(experiment)).items():
        found |= _of(stage, cells)
    return found


def _notes(experiment: Experiment) -> dict[str, Read]:
    names = dict.fromkeys(name for grid in experiment.cells for name in grid.datasets)
    return {f"{file} {name}": Read("manifest", (name, WHOLE), file) for name in names for file in ("rows", "ledger")}


def _of(stage: str, cells: Sequence[Cell]) -> dict[str, Read]:
    found = _truths(cells) if stage == "fit" else {}
    return found | {f"{stage} {cell}": Read(stage, tuple(vars(cell).values()), FILES[stage]) for cell in cells}


def _truths(cells: Iterable[Cell]) -> dict[str, Read]:
    return {f"truth {cell.dataset}": Read("manifest", (cell.dataset, "truth"), "rows") for cell in cells}
