"""Stage ``masks``: brings the masks of a dataset to one size, once for all cells whose maps are compared at that size."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import Results
from foundad.stages.base import Read, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Masks(Stage):
    """The defective pixels of the test images at ``side`` x ``side`` pixels, and the regions that they form."""

    dataset: str
    side: int

    name = "masks"
    text = "find the defective pixels of a dataset at the size at which maps are compared"

    def reads(self, project: "Project") -> dict[str, Read]:
        return {"manifest": Read("manifest", (self.dataset, "truth"), "rows")}

    def writes(self, results: Results) -> dict[str, Path]:
        return {"masks": results.masks(self.dataset, self.side)}

    def settings(self, keys: "Keys") -> Any:
        return self.side

    def work(self, task: Task) -> None:
        from foundad.data.manifest import read_manifest
        from foundad.metrics.masks import prepare_masks

        rows = read_manifest(task.inputs["manifest"], task.key.of("manifest")).at(task.project.root(self.dataset))
        prepare_masks(rows, self.side, task.outputs["masks"], task.key.own)
