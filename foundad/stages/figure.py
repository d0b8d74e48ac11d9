"""Stage ``figure``: draws one figure of an experiment and writes its data."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import FIGURE_SUFFIXES, Results
from foundad.stages.base import Read, Sources, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Figure(Stage):
    """One entry of the key ``figures`` of an experiment."""

    experiment: str
    figure: str

    name = "figure"
    text = "draw one figure of an experiment"
    records_failure = False
    checks = False

    def reads(self, project: "Project") -> dict[str, Read]:
        return project.read_by(self.experiment, project.figure(self.experiment, self.figure))

    def rests_on(self, project: "Project") -> dict[str, Read]:
        return project.behind(self.experiment, project.figure(self.experiment, self.figure))

    def writes(self, results: Results) -> dict[str, Path]:
        return {suffix: results.figure(self.experiment, self.figure, suffix) for suffix in FIGURE_SUFFIXES}

    def sources(self, keys: "Keys") -> Sources:
        return Sources((type(self).__module__, type(keys.project.figure(self.experiment, self.figure)).__module__))

    def settings(self, keys: "Keys") -> Any:
        return keys.shown(keys.project.experiment(self.experiment), keys.project.figure(self.experiment, self.figure))

    def work(self, task: Task) -> None:
        from foundad.report.figures.base import write_figure

        task.project.figure(self.experiment, self.figure)
        experiment = task.project.experiment(self.experiment)
        write_figure(task.results, task.project.catalogue, experiment, self.figure)
