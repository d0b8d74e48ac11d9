"""Stage ``efficiency``: what scoring a picture costs on this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.paths import Results
from foundad.stages.base import Read, Task
from foundad.stages.measured import Measured

if TYPE_CHECKING:
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Efficiency(Measured):
    """Of the model of one cell. Times are no metric; the workflow runs it alone on the machine."""

    name = "efficiency"
    text = "measure what scoring a picture costs here"

    def reads(self, project: "Project") -> dict[str, Read]:
        return super().reads(project) | {"record": Read("fit", self.wildcards, "record")}

    def writes(self, results: Results) -> dict[str, Path]:
        return {"efficiency": results.efficiency(self.cell)}

    def work(self, task: Task) -> None:
        compute = task.compute()  # before torch is imported
        from foundad.data.manifest import read_manifest
        from foundad.detection.efficiency import measure

        rows = read_manifest(task.inputs["manifest"], task.key.of("manifest")).at(task.project.root(self.dataset))
        measure(rows, task.project.encoder(self.encoder), task.inputs, task.outputs["efficiency"], compute, task.key)
