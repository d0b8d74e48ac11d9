"""Stage ``collect``: the metrics of all cells in one long table, and their records in another."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.errors import BrokenFile
from foundad.paths import Results
from foundad.stages.base import Read, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Collect(Stage):
    """Gathers all cells of the run. A cell counts only if its files have the keys of this run."""

    name = "collect"
    text = "gather the metrics and records of all cells of experiments"
    records_failure = False
    gathers = True
    checks = False

    def reads(self, project: "Project") -> dict[str, Read]:
        found = {}
        for cell in project.cells:
            wildcards = tuple(vars(cell).values())
            found[f"metrics {cell}"] = Read("evaluate", wildcards, "metrics")
            found[f"record {cell}"] = Read("fit", wildcards, "record")
        return found

    def writes(self, results: Results) -> dict[str, Path]:
        return {"metrics": results.metrics, "runs": results.runs}

    def work(self, task: Task) -> None:
        from foundad.report.collect import collect

        keys = task.keys()
        if task.key.own not in ("", keys.of("collect").own):
            raise BrokenFile("data, weights, config or sources changed during this run; start it again")
        wanted = {
            cell: (keys.of_cell("fit", cell).own, keys.of_cell("evaluate", cell).own) for cell in task.project.cells
        }
        collect(wanted, task.results)
