"""The files that a table or figure reads, and the files behind it whose keys enter its own key.

Both follow from the stages and cells that its kind says it reads.
"""

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
    """The files that a table or figure reads.

    These are the collected metrics with the notes of manifests, the scores of cells with their ground truth, and the
    measurements of cells.
    """
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
    """The files whose keys enter the key of a table or figure.

    They differ from :func:`read_by` in two ways. The files of the cells that are shown replace the collected metrics of
    all cells of the run. The notes of manifests are always among them.
    """
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
