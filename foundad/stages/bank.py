"""Stage ``bank``: encodes the drawn images and the pairs made of them. Methods with equal banks share the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import PATCH, Array, Results
from foundad.stages.base import Read, Sources, Stage, Task

if TYPE_CHECKING:
    from foundad.config.run import Run
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Bank(Stage):
    """One ``array`` of the bank of one draw and encoder. The wildcard ``bank`` is the id of the settings that make it.

    Further arrays come from the pass that makes the patch tokens, as in the stage ``features``.
    """

    dataset: str
    encoder: str
    bank: str
    shots: int
    seed: int
    array: str = PATCH

    name = "bank"
    text = "encode the drawn images and the pairs made of them"
    options = ("device", "precision", "compile", "batch-size", "threads", "beside")

    def reads(self, project: "Project") -> dict[str, Read]:
        project.known_array(self.array)
        found = {"draw": Read("draw", (self.dataset, self.shots, self.seed), "draw")}
        if self.array != PATCH:
            found["patch"] = Read("bank", (self.dataset, self.encoder, self.bank, self.shots, self.seed), "bank")
        return found

    def writes(self, results: Results) -> dict[str, Path]:
        return {"bank": self._path(results, self.array)}

    def _path(self, results: Results, array: str) -> Path:
        return results.bank(self.dataset, self.encoder, self.shots, self.seed, self.bank, array)

    def sources(self, keys: "Keys") -> Sources:
        return keys.with_library(type(self).__module__, self.encoder)

    def settings(self, keys: "Keys") -> Any:
        named = [] if self.array == PATCH else [self.array]
        return [keys.encoder(self.encoder), keys.dumped(keys.project.bank(self.bank)), keys.arithmetic, *named]

    def threads(self, run: "Run") -> int:
        return run.threads.bank

    def work(self, task: Task) -> None:
        compute = task.compute()  # before torch is imported
        import torch

        from foundad.data.draws import read_draw
        from foundad.pairs.encoder import PairEncoder, build_bank, drawn_images, left_by_another

        encoder, settings = task.project.encoder(self.encoder), task.project.bank(self.bank)
        arrays = [Array(task.outputs["bank"], self.array, task.key.own)]
        if left_by_another(arrays[0]):
            return
        arrays += [Array(self._path(task.results, name), name, key) for name, key in task.beside.items()]
        torch.set_num_threads(compute.threads)
        drawn = read_draw(task.inputs["draw"], task.key.of("draw"), (self.dataset, self.shots, self.seed))
        images = drawn_images(drawn, task.project.root(self.dataset))
        build_bank(PairEncoder(drawn, images, settings, encoder, compute), arrays)
