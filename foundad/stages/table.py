"""Stage ``table``: one table of an experiment, in every format."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import TABLE_SUFFIXES, Results
from foundad.stages.base import Read, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Table(Stage):
    """Of the key ``tables``."""

    experiment: str
    table: str

    name = "table"
    text = "write one table of an experiment"
    records_failure = False
    checks = False

    def reads(self, project: "Project") -> dict[str, Read]:
        return project.read_by_table(self.experiment, self.table)

    def rests_on(self, project: "Project") -> dict[str, Read]:
        return project.behind_table(self.experiment, self.table)

    def writes(self, results: Results) -> dict[str, Path]:
        return {suffix: results.table(self.experiment, self.table, suffix) for suffix in TABLE_SUFFIXES}

    def settings(self, keys: "Keys") -> Any:
        experiment = keys.project.experiment(self.experiment)
        return [keys.shown(experiment, experiment.tables[self.table]), keys.published]

    def work(self, task: Task) -> None:
        from foundad.report.tables import write_table

        experiment = task.project.experiment(self.experiment)
        task.project.known("table", self.table, experiment.tables)
        write_table(task.results, task.project.catalogue, experiment, self.table)
