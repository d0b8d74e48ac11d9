"""Stage ``efficiency``: measures what it costs to score a picture on this machine."""

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
    """Measures the model of one cell.

    Times depend on the machine, so they are not among the metrics. The workflow runs nothing else at the same time.
    """

    name = "efficiency"
    text = "measure what it costs to score a picture on this machine"

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
