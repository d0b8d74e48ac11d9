"""The common part of the stages ``observe`` and ``efficiency``, which measure the model of one cell on test images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foundad.stages.base import CellStage, Read, Sources

if TYPE_CHECKING:
    from foundad.config.run import Run
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Measured(CellStage):
    """A stage that reads the test images and the model of one cell, and encodes images."""

    options = ("device", "precision", "threads")

    def reads(self, project: "Project") -> dict[str, Read]:
        return {
            "manifest": Read("manifest", (self.dataset, "test"), "rows"),
            "model": Read("fit", self.wildcards, "model"),
        }

    def sources(self, keys: "Keys") -> Sources:
        return keys.with_library(type(self).__module__, self.encoder)

    def settings(self, keys: "Keys") -> Any:
        return [keys.encoder(self.encoder), keys.run.precision]

    def threads(self, run: "Run") -> int:
        return run.threads.features
