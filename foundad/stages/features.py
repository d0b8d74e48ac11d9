"""Stage ``features``: encodes every test image into patch tokens, once for all shots, seeds and methods."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import AS_IS, Results
from foundad.stages.base import Read, Sources, Stage, Task

if TYPE_CHECKING:
    from foundad.config.run import Run
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Features(Stage):
    """The patch tokens of one dataset from one encoder. ``view`` names how images are changed before encoding."""

    dataset: str
    encoder: str
    view: str = AS_IS

    name = "features"
    text = "encode every test image of a dataset"
    options = ("device", "precision", "compile", "batch-size", "threads")

    def reads(self, project: "Project") -> dict[str, Read]:
        project.known_view(self.view)
        return {"manifest": Read("manifest", (self.dataset, "test"), "rows")}

    def writes(self, results: Results) -> dict[str, Path]:
        tokens = results.features(self.dataset, self.encoder, self.view)
        return {"tokens": tokens, "facts": tokens.with_suffix(".json")}

    def sources(self, keys: "Keys") -> Sources:
        return keys.with_library(type(self).__module__, self.encoder)

    def settings(self, keys: "Keys") -> Any:
        return [keys.encoder(self.encoder), keys.arithmetic, self.view]

    def threads(self, run: "Run") -> int:
        return run.threads.features

    def work(self, task: Task) -> None:
        compute = task.compute()  # before torch is imported
        from foundad.data.manifest import read_manifest
        from foundad.encoders.extraction import extract_features

        encoder = task.project.encoder(self.encoder)
        rows = read_manifest(task.inputs["manifest"], task.key.of("manifest")).at(task.project.root(self.dataset))
        query = "" if self.view == AS_IS else self.view
        extract_features(rows, encoder, task.outputs["tokens"], compute, query, task.key.own)
