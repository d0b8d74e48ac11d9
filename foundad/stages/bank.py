"""Stage ``bank``: encodes the drawn images and the pairs made of them. Methods with equal banks share the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import Results
from foundad.stages.base import Read, Sources, Stage, Task

if TYPE_CHECKING:
    from foundad.config.run import Run
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Bank(Stage):
    """The bank of one draw and encoder. The wildcard ``bank`` is the id of the settings that make it."""

    dataset: str
    encoder: str
    bank: str
    shots: int
    seed: int

    name = "bank"
    text = "encode the drawn images and the pairs made of them"
    options = ("device", "precision", "compile", "batch-size", "threads")

    def reads(self, project: "Project") -> dict[str, Read]:
        return {"draw": Read("draw", (self.dataset, self.shots, self.seed), "draw")}

    def writes(self, results: Results) -> dict[str, Path]:
        return {"bank": results.bank(self.dataset, self.encoder, self.shots, self.seed, self.bank)}

    def sources(self, keys: "Keys") -> Sources:
        return keys.with_library(type(self).__module__, self.encoder)

    def settings(self, keys: "Keys") -> Any:
        return [keys.encoder(self.encoder), keys.dumped(keys.project.bank(self.bank)), keys.arithmetic]

    def threads(self, run: "Run") -> int:
        return run.threads.bank

    def work(self, task: Task) -> None:
        compute = task.compute()  # before torch is imported
        import torch

        from foundad.data.draws import read_draw
        from foundad.pairs.encoder import PairEncoder, build_bank, drawn_images

        encoder, settings = task.project.encoder(self.encoder), task.project.bank(self.bank)
        torch.set_num_threads(compute.threads)
        drawn = read_draw(task.inputs["draw"], task.key.of("draw"), (self.dataset, self.shots, self.seed))
        images = drawn_images(drawn, task.project.root(self.dataset))
        maker = PairEncoder(drawn, images, settings, encoder, compute)
        build_bank(maker, task.outputs["bank"], task.key.own)
