"""Stage ``features``: encodes every test image, once for all shots, seeds and methods."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import AS_IS, PATCH, Array, Results
from foundad.stages.base import Read, Sources, Stage, Task

if TYPE_CHECKING:
    from foundad.config.run import Run
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Features(Stage):
    """One ``array`` of one dataset from one encoder. ``view`` names how images are changed before encoding.

    The job of the patch tokens leaves the rows of further arrays that the run wants (``beside``) where their own jobs
    resume, so that all come from one pass of the encoder. Those jobs wait for the patch tokens.
    """

    dataset: str
    encoder: str
    view: str = AS_IS
    array: str = PATCH

    name = "features"
    text = "encode every test image of a dataset"
    options = ("device", "precision", "compile", "batch-size", "threads", "beside")

    def reads(self, project: "Project") -> dict[str, Read]:
        project.known_view(self.view)
        project.known_array(self.array)
        found = {"manifest": Read("manifest", (self.dataset, "test"), "rows")}
        if self.array != PATCH:
            found["patch"] = Read("features", (self.dataset, self.encoder, self.view), "tokens")
        return found

    def writes(self, results: Results) -> dict[str, Path]:
        tokens = results.features(self.dataset, self.encoder, self.view, self.array)
        return {"tokens": tokens, "facts": tokens.with_suffix(".json")}

    def sources(self, keys: "Keys") -> Sources:
        return keys.with_library(type(self).__module__, self.encoder)

    def settings(self, keys: "Keys") -> Any:
        named = [] if self.array == PATCH else [self.array]
        return [keys.encoder(self.encoder), keys.arithmetic, self.view, *named]

    def threads(self, run: "Run") -> int:
        return run.threads.features

    def work(self, task: Task) -> None:
        compute = task.compute()  # before torch is imported
        from foundad.data.manifest import read_manifest
        from foundad.encoders.extraction import extract_features

        encoder = task.project.encoder(self.encoder)
        rows = read_manifest(task.inputs["manifest"], task.key.of("manifest")).at(task.project.root(self.dataset))
        query = "" if self.view == AS_IS else self.view
        arrays = [Array(task.outputs["tokens"], self.array, task.key.own)]
        for name, key in task.beside.items():
            arrays.append(Array(task.results.features(self.dataset, self.encoder, self.view, name), name, key))
        extract_features(rows, encoder, arrays, compute, query)
