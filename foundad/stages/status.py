"""Stage ``status``: lists the failed cells with reasons and fails if there are any. It is the last job of a run."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.cells import AXES, Cell
from foundad.errors import UserError
from foundad.files import write_text
from foundad.paths import Results
from foundad.sealed import read_run_table
from foundad.stages.base import Read, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Status(Stage):
    """The check that every cell of the run is done. Only then does its output file exist."""

    name = "status"
    text = "list the failed cells of experiments; exit code 1 if there are any"
    records_failure = False
    gathers = True
    checks = False

    def reads(self, project: "Project") -> dict[str, Read]:
        return {"runs": Read("collect", (), "runs")}

    def writes(self, results: Results) -> dict[str, Path]:
        return {"status": results.root / "status.txt"}

    def work(self, task: Task) -> int:
        return write_status(task.results.runs, task.project.cells, task.outputs["status"])


def write_status(runs: Path, cells: Sequence[Cell], out: Path) -> int:
    """Write ``out`` if all ``cells`` are done in the table ``runs``; otherwise print the failed ones with their reasons.

    Returns:
        The exit code: 0 if every cell is done, otherwise 1.

    Raises:
        UserError: the table lacks one of the cells, or cannot be read.
    """
    rows = read_run_table(runs, [*AXES, "status", "reason"]).to_pylist()
    found = {Cell(*(row[axis] for axis in AXES)): row for row in rows}
    absent = [cell for cell in cells if cell not in found]
    if absent:
        raise UserError(f"{runs}: holds no cell {absent[0]}; make it with: snakemake --cores all")
    failed = {cell: found[cell]["reason"] for cell in cells if found[cell]["status"] != "done"}
    if not failed:
        write_text(out, f"{len(cells)} cells done\n")
        return 0
    by_reason: dict[str, list[str]] = {}
    for cell, reason in sorted(failed.items()):
        by_reason.setdefault(reason, []).append(str(cell))
    print(f"{len(failed)} of {len(cells)} cells failed; the tables show a dash for each:", file=sys.stderr)
    for reason, names in by_reason.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        print(f"  {names[0]}{more}: {reason}", file=sys.stderr)
    return 1
