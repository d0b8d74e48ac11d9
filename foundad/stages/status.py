"""Stage ``status``: lists the failed cells with reasons and fails if there are any. It is the last job of a run."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.cells import Cell
from foundad.files import write_text
from foundad.paths import Results
from foundad.sealed import read_run_table
from foundad.stages.base import Read, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Status(Stage):
    """The check that every cell is done. Only then does its output file exist."""

    name = "status"
    text = "list the failed cells; exit code 1 if there are any"
    records_failure = False
    checks = False

    def reads(self, project: "Project") -> dict[str, Read]:
        return {"runs": Read("collect", (), "runs")}

    def writes(self, results: Results) -> dict[str, Path]:
        return {"status": results.root / "status.txt"}

    def work(self, task: Task) -> int:
        return write_status(task.results.runs, task.outputs["status"])


def write_status(runs: Path, out: Path) -> int:
    """Write ``out`` if every cell in the table ``runs`` is done; otherwise print the failed cells with their reasons.

    Returns:
        The exit code: 0 if every cell is done, otherwise 1.
    """
    axes = list(Cell.__dataclass_fields__)
    rows = read_run_table(runs, [*axes, "status", "reason"]).to_pylist()
    failed = [row for row in rows if row["status"] != "done"]
    if not failed:
        write_text(out, f"{len(rows)} cells done\n")
        return 0
    by_reason: dict[str, list[str]] = {}
    for row in failed:
        by_reason.setdefault(row["reason"], []).append(str(Cell(*(row[axis] for axis in axes))))
    print(f"{len(failed)} of {len(rows)} cells failed; the tables show a dash for each:", file=sys.stderr)
    for reason, cells in by_reason.items():
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        print(f"  {cells[0]}{more}: {reason}", file=sys.stderr)
    return 1
