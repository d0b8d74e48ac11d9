"""Stage ``figure``: one figure of an experiment, with its data."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import FIGURE_SUFFIXES, Results
from foundad.stages.base import Read, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Figure(Stage):
    """Of the key ``figures``."""

    experiment: str
    figure: str

    name = "figure"
    text = "draw one figure of an experiment"
    records_failure = False
    checks = False

    def reads(self, project: "Project") -> dict[str, Read]:
        return project.read_by_figure(self.experiment, self.figure)

    def rests_on(self, project: "Project") -> dict[str, Read]:
        return project.behind_figure(self.experiment, self.figure)

    def writes(self, results: Results) -> dict[str, Path]:
        return {suffix: results.figure(self.experiment, self.figure, suffix) for suffix in FIGURE_SUFFIXES}

    def settings(self, keys: "Keys") -> Any:
        experiment = keys.project.experiment(self.experiment)
        return keys.shown(experiment, experiment.figures[self.figure])

    def work(self, task: Task) -> None:
        from foundad.report.figures import write_figure

        experiment = task.project.experiment(self.experiment)
        task.project.known("figure", self.figure, experiment.figures)
        write_figure(task.results, task.project.catalogue, experiment, self.figure)
