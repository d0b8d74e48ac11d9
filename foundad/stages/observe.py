"""Stage ``observe``: measures how embeddings and residuals respond to growing anomalies (Figure 2 of the paper)."""

from dataclasses import dataclass
from pathlib import Path

from foundad.paths import Results
from foundad.stages.base import Task
from foundad.stages.measured import Measured


@dataclass(frozen=True)
class Observe(Measured):
    """Measures the model of one cell on normal test images with growing squares pasted on them."""

    name = "observe"
    text = "paste growing squares on normal images and measure the response"

    def writes(self, results: Results) -> dict[str, Path]:
        return {"observation": results.observation(self.cell)}

    def work(self, task: Task) -> None:
        compute = task.compute()  # before torch is imported
        from foundad.data.manifest import read_manifest
        from foundad.detection.model import Model
        from foundad.method.observation import observe

        rows = read_manifest(task.inputs["manifest"], task.key.of("manifest")).at(task.project.root(self.dataset))
        model = Model.load(task.inputs["model"], compute, task.key.of("model"))
        observe(rows, task.project.encoder(self.encoder), model, task.outputs["observation"], task.key)
