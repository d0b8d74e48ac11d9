"""Stage ``fit``: fits the method of one cell and scores every test image on the patch grid."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import AS_IS, Results
from foundad.stages.base import CellStage, Read, Sources, Task

if TYPE_CHECKING:
    from foundad.config.run import Run
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Fit(CellStage):
    """Fits and scores one cell. The job reads what the method says it needs."""

    name = "fit"
    text = "fit a method and score every test image"
    options = ("device", "precision", "compile", "threads")

    def reads(self, project: "Project") -> dict[str, Read]:
        method = project.method(self.method)
        found = {"manifest": Read("manifest", (self.dataset, "test"), "rows")}
        if "truth" in method.needs:
            found["masks"] = Read("masks", (self.dataset, project.encoder(self.encoder).image_size), "masks")
        if "features" in method.needs:
            for view in (AS_IS, *method.bank.queries):
                place = (self.dataset, self.encoder, view)
                found[f"features@{view}"] = Read("features", place, "tokens")
                found |= {f"{name}@{view}": Read("features", (*place, name), "tokens") for name in method.arrays}
        if "bank" in method.needs:
            bank = (self.dataset, self.encoder, project.bank_id(method), self.shots, self.seed)
            found["bank"] = Read("bank", bank, "bank")
            found |= {f"bank.{name}": Read("bank", (*bank, name), "bank") for name in method.arrays}
        if method.draws:
            found["draw"] = Read("draw", (self.dataset, self.shots, self.seed), "draw")
        return found

    def writes(self, results: Results) -> dict[str, Path]:
        folder = results.cell(self.cell)
        return {
            "model": folder / "model.safetensors",
            "scores": folder / "scores.safetensors",
            "record": folder / "record.json",
        }

    def sources(self, keys: "Keys") -> Sources:
        method = keys.project.method(self.method)
        return keys.with_detector(type(self).__module__, method, self.encoder)

    def settings(self, keys: "Keys") -> Any:
        method = keys.project.method(self.method)
        top_k = method.top_k or keys.project.dataset(self.dataset).top_k
        return [top_k, keys.encoder(self.encoder), keys.resolved(method), *keys.arithmetic]

    def uses_gpu(self, project: "Project") -> bool:
        return project.method(self.method).uses_device

    def threads(self, run: "Run") -> int:
        return run.threads.fit

    def work(self, task: Task) -> None:
        project, method = task.project, task.project.method(self.method)
        compute = task.compute(method.uses_device)  # before torch is imported
        from foundad.data.manifest import read_manifest
        from foundad.detection.fitting import fit_cell
        from foundad.detection.model import Model

        top_k = method.top_k or project.dataset(self.dataset).top_k
        model = Model(method, project.encoder(self.encoder), self.seed, top_k, compute)
        rows = read_manifest(task.inputs["manifest"], task.key.of("manifest")).at(project.root(self.dataset))
        fit_cell(self.cell, model, rows, task.inputs, task.outputs, task.key)
