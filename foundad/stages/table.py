"""Stage ``table``: writes one table of an experiment in every format."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import TABLE_SUFFIXES, Results
from foundad.stages.base import Read, Sources, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Table(Stage):
    """One entry of the key ``tables`` of an experiment."""

    experiment: str
    table: str

    name = "table"
    text = "write one table of an experiment"
    records_failure = False
    checks = False

    def reads(self, project: "Project") -> dict[str, Read]:
        return project.read_by(self.experiment, project.table(self.experiment, self.table))

    def rests_on(self, project: "Project") -> dict[str, Read]:
        return project.behind(self.experiment, project.table(self.experiment, self.table))

    def writes(self, results: Results) -> dict[str, Path]:
        return {suffix: results.table(self.experiment, self.table, suffix) for suffix in TABLE_SUFFIXES}

    def sources(self, keys: "Keys") -> Sources:
        return Sources((type(self).__module__, type(keys.project.table(self.experiment, self.table)).__module__))

    def settings(self, keys: "Keys") -> Any:
        return keys.shown(keys.project.experiment(self.experiment), keys.project.table(self.experiment, self.table))

    def work(self, task: Task) -> None:
        from foundad.report.tables.base import write_table

        task.project.table(self.experiment, self.table)
        experiment = task.project.experiment(self.experiment)
        write_table(task.results, task.project.catalogue, experiment, self.table)
