"""Stage ``draw``: chooses the few normal images per category that methods learn from."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.paths import Results
from foundad.stages.base import Read, Stage, Task

if TYPE_CHECKING:
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Draw(Stage):
    """``shots`` normal images per category, drawn with ``seed`` or taken from a list."""

    dataset: str
    shots: int
    seed: int

    name = "draw"
    text = "draw the normal images that methods learn from"

    def reads(self, project: "Project") -> dict[str, Read]:
        return {"manifest": Read("manifest", (self.dataset, "train"), "rows")}

    def writes(self, results: Results) -> dict[str, Path]:
        return {"draw": results.draw(self.dataset, self.shots, self.seed)}

    def settings(self, keys: "Keys") -> Any:
        return keys.listed_draws(self.dataset)

    def work(self, task: Task) -> None:
        from foundad.data.draws import draw, listed_draw, write_draw
        from foundad.data.manifest import read_manifest

        dataset = task.project.dataset(self.dataset)
        rows = read_manifest(task.inputs["manifest"], task.key.of("manifest"))
        if dataset.draws is None:
            drawn = draw(rows, self.shots, self.seed)
        else:
            drawn = listed_draw(rows, dataset.expanded_draws, self.shots, self.seed)
        write_draw(drawn, task.outputs["draw"], task.key.own)
