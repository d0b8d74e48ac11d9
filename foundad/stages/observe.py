"""Stage ``observe``: how embeddings and residuals answer to growing anomalies (Figure 2 of the paper)."""

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
class Observe(CellStage):
    """Of the model of one cell, on normal test images with growing squares."""

    name = "observe"
    text = "paste growing squares on normal images and see"
    options = ("device", "precision", "threads")

    def reads(self, project: "Project") -> dict[str, Read]:
        return {
            "manifest": Read("manifest", (self.dataset, "test"), "rows"),
            "model": Read("fit", self.wildcards, "model"),
        }

    def writes(self, results: Results) -> dict[str, Path]:
        return {"observation": results.observation(self.cell)}

    def sources(self, keys: "Keys") -> Sources:
        return keys.with_library(type(self).__module__, self.encoder)

    def settings(self, keys: "Keys") -> Any:
        return [keys.encoder(self.encoder), keys.run.precision]

    def threads(self, run: "config.Run") -> int:
        return run.threads.features

    def work(self, task: Task) -> None:
        compute = task.compute()  # before torch is imported
        from foundad.data.manifest import read_manifest
        from foundad.detection.model import Model
        from foundad.method.observation import observe

        rows = read_manifest(task.inputs["manifest"], task.key.of("manifest")).at(task.project.root(self.dataset))
        model = Model.load(task.inputs["model"], compute, task.key.of("model"))
        observe(rows, task.project.encoder(self.encoder), model, task.outputs["observation"], task.key)
