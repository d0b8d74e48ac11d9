"""Stage ``efficiency``: what scoring a picture costs on this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import Results
from foundad.stages.base import CellStage, Read, Sources, Task

if TYPE_CHECKING:
    from foundad import config
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Efficiency(CellStage):
    """Of the model of one cell. Times are no metric; the workflow runs it alone on the machine."""

    name = "efficiency"
    text = "measure what scoring a picture costs here"
    options = ("device", "precision", "threads")

    def reads(self, project: "Project") -> dict[str, Read]:
        return {
            "manifest": Read("manifest", (self.dataset, "test"), "rows"),
            "model": Read("fit", self.wildcards, "model"),
            "record": Read("fit", self.wildcards, "record"),
        }

    def writes(self, results: Results) -> dict[str, Path]:
        return {"efficiency": results.efficiency(self.cell)}

    def sources(self, keys: "Keys") -> Sources:
        return keys.with_library(type(self).__module__, self.encoder)

    def settings(self, keys: "Keys") -> Any:
        return [keys.encoder(self.encoder), keys.run.precision]

    def threads(self, run: "config.Run") -> int:
        return run.threads.features

    def work(self, task: Task) -> None:
        compute = task.compute()  # before torch is imported
        from foundad.data.manifest import read_manifest
        from foundad.detection.efficiency import measure

        rows = read_manifest(task.inputs["manifest"], task.key.of("manifest")).at(task.project.root(self.dataset))
        measure(rows, task.project.encoder(self.encoder), task.inputs, task.outputs["efficiency"], compute, task.key)
