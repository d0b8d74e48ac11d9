"""Stage ``report``: writes the page of the whole study, report/index.html."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import FIGURE_SUFFIXES, TABLE_SUFFIXES, Results
from foundad.stages.base import Read, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Report(Stage):
    """The page with all tables and figures of the run."""

    name = "report"
    text = "write the page of the study, report/index.html"
    records_failure = False
    gathers = True
    checks = False

    def reads(self, project: "Project") -> dict[str, Read]:
        found = {"metrics": Read("collect", (), "metrics"), "runs": Read("collect", (), "runs")}
        for experiment in project.experiments:
            for name in experiment.tables:
                for suffix in TABLE_SUFFIXES:
                    found[f"table {experiment.id}/{name}.{suffix}"] = Read("table", (experiment.id, name), suffix)
            for name in experiment.figures:
                for suffix in FIGURE_SUFFIXES:
                    found[f"figure {experiment.id}/{name}.{suffix}"] = Read("figure", (experiment.id, name), suffix)
        return found

    def writes(self, results: Results) -> dict[str, Path]:
        return {"page": results.report}

    def settings(self, keys: "Keys") -> Any:
        return [keys.page_files, keys.words(), [keys.printed(experiment) for experiment in keys.project.experiments]]

    def work(self, task: Task) -> None:
        from foundad.report.page import write_page

        write_page(task.results, task.project.catalogue, task.project.experiments)
        print(task.outputs["page"])
