"""Stage ``overview``: draws what a dataset looks like and how large its defects are."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import FIGURE_SUFFIXES, WHOLE, Results
from foundad.stages.base import Read, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Overview(Stage):
    """The overview figure of one dataset."""

    dataset: str

    name = "overview"
    text = "draw sample images of a dataset and the sizes of its defects"

    def reads(self, project: "Project") -> dict[str, Read]:
        return {"manifest": Read("manifest", (self.dataset, WHOLE), "rows")}

    def writes(self, results: Results) -> dict[str, Path]:
        return {suffix: results.overview(self.dataset, suffix) for suffix in FIGURE_SUFFIXES}

    def settings(self, keys: "Keys") -> Any:
        return keys.project.dataset(self.dataset).title

    def work(self, task: Task) -> None:
        from foundad.data.manifest import read_manifest
        from foundad.report.overview import write_overview

        rows = read_manifest(task.inputs["manifest"], task.key.of("manifest"))
        write_overview(task.project.dataset(self.dataset), rows, task.project.root(self.dataset), task.outputs["png"])
