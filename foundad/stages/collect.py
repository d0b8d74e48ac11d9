"""Stage ``collect``: the metrics of all cells in one long table, and their records in another."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.cells import Cell
from foundad.errors import BrokenFile, UserError
from foundad.paths import Results
from foundad.stages.base import Read, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Collect(Stage):
    """Gathers all cells of the run, and every other finished cell of the results folder beside them.

    A cell counts only if its files have the keys that the current config and data give. The job reads the cells of its
    run: they must be there, and their keys are in its key. The others may come and go. The param ``beside`` of the rule
    (:attr:`foundad.plan.selection.Plan.beside`) makes the job run again when they do.
    """

    name = "collect"
    text = "gather the metrics and records of all finished cells of the results folder"
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
        from foundad.report.collect import Keys, collect
        from foundad.stored import finished_cells

        keys = task.keys()
        if task.key.own not in ("", keys.of("collect").own):
            raise BrokenFile("data, weights, config or sources changed during this run; start it again")
        of_run = {cell: Keys(*keys.of_files(cell)) for cell in task.project.cells}
        beside: dict[Cell, Keys] = {}
        left_out: dict[Cell, str] = {}
        for cell in finished_cells(task.results):
            try:
                beside |= {} if cell in of_run else {cell: Keys(*keys.of_files(cell))}
            except UserError as error:  # the config does not know its dataset, encoder or method
                left_out[cell] = str(error)
        left_out |= collect(of_run, task.results, beside)
        for cell, reason in sorted(left_out.items()):
            print(f"left out: {cell}: {reason}", file=sys.stderr)
        if left_out:
            print(
                f"{task.results.metrics}: without {len(left_out)} cells of the folder that are stale, damaged or unknown"
            )
