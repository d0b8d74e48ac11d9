"""Stage ``textures``: makes the dataset of the demo."""

from dataclasses import dataclass
from pathlib import Path

from foundad.paths import Results
from foundad.stages.base import Stage, Task


@dataclass(frozen=True)
class Textures(Stage):
    """Photographs of textures with drawn defects. They are stored below the results."""

    name = "textures"
    text = "make the dataset textures from photographs that come with scikit-image"
    records_failure = False

    def writes(self, results: Results) -> dict[str, Path]:
        return {"source": results.data("textures") / "SOURCE.md"}

    def work(self, task: Task) -> None:
        from foundad.data.textures import write_textures

        write_textures(task.outputs["source"].parent)
