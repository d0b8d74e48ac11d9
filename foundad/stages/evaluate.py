"""Stage ``evaluate``: computes every metric of one cell under every protocol."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from foundad.paths import Results
from foundad.stages.base import CellStage, Read, Sources, Task

if TYPE_CHECKING:
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Evaluate(CellStage):
    """Compares the scores of one cell with the ground truth.

    When a metric changes, only this stage runs again, and the stages that read its metrics.
    """

    name = "evaluate"
    text = "compute every metric of one cell"
    options = ("device",)
    defaults: ClassVar[Mapping[str, str]] = {"device": "cpu"}

    def reads(self, project: "Project") -> dict[str, Read]:
        return {
            "manifest": Read("manifest", (self.dataset, "test"), "rows"),
            "masks": Read("masks", (self.dataset, project.encoder(self.encoder).image_size), "masks"),
            "scores": Read("fit", self.wildcards, "scores"),
        }

    def writes(self, results: Results) -> dict[str, Path]:
        return {"metrics": results.cell(self.cell) / "metrics.parquet"}

    def settings(self, keys: "Keys") -> Any:
        return [keys.project.method(self.method).smoothing, keys.computed]

    def sources(self, keys: "Keys") -> Sources:
        return keys.with_metrics(type(self).__module__)

    def uses_gpu(self, project: "Project") -> bool:
        return False  # the workflow always evaluates with numpy

    def work(self, task: Task) -> None:
        device = "cpu" if task.wanted.device == "cpu" else task.compute().device
        from foundad.data.manifest import read_manifest
        from foundad.metrics.evaluation import Maps, evaluate_cell

        rows = read_manifest(task.inputs["manifest"], task.key.of("manifest"))
        smoothing = task.project.method(self.method).smoothing
        maps = Maps(smoothing, "cpu" if device == "mps" else device)  # mps has no float64
        evaluate_cell(self.cell, rows, task.inputs, task.outputs["metrics"], maps, task.key)
