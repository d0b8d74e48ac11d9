"""Stage ``manifest``: verifies every file of a dataset and lists its images.

There is one manifest per part of a dataset: ``train``; ``test``; ``truth``, which is the test images with their masks;
and the ``whole``, which comes with a ledger of all files. Because of the parts, a changed mask does not make features
stale.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.errors import UserError
from foundad.paths import WHOLE, Results
from foundad.stages.base import Read, Sources, Stage, Task

if TYPE_CHECKING:
    from foundad.config.run import Run
    from foundad.plan.keys import Keys
    from foundad.plan.project import Project


@dataclass(frozen=True)
class Manifest(Stage):
    """The list of the images of one part of a dataset, one row per image."""

    dataset: str
    part: str = WHOLE

    name = "manifest"
    text = "verify every image of a dataset and list the images"
    options = ("threads", "again")

    def reads(self, project: "Project") -> dict[str, Read]:
        generator = project.dataset(self.dataset).generator
        return {"data": Read(generator, (), "source")} if generator else {}

    def writes(self, results: Results) -> dict[str, Path]:
        found = {"rows": results.manifest(self.dataset, self.part)}
        return found | ({"ledger": results.ledger(self.dataset)} if self.part == WHOLE else {})

    def sources(self, keys: "Keys") -> Sources:
        return keys.with_layout(type(self).__module__, self.dataset)

    def settings(self, keys: "Keys") -> Any:
        dataset = keys.project.dataset(self.dataset)
        settings = keys.resolved(dataset)
        settings.pop("top_k")
        if self.part == WHOLE:
            settings["counts"] = keys.dumped(dataset)["counts"]
        elif self.part != "truth" and dataset.strict:
            settings.pop("mask_threshold")
        found = "" if dataset.generator else keys.contents(self.dataset).of(self.part)
        return [settings, self.part, found]

    def threads(self, run: "Run") -> int:
        return run.threads.manifest

    def work(self, task: Task) -> None:
        try:
            self._write(task)
        except UserError:
            self._remember(task)
            raise
        if task.again:
            self._remember(task)

    def _write(self, task: Task) -> None:
        from foundad.data.ledger import write_ledger
        from foundad.data.manifest import part_of, write_manifest
        from foundad.data.verify import build_manifest
        from foundad.files import lock

        checked = task.results.checked(self.dataset)
        with lock(checked.with_suffix(".lock")):  # one job reads all files; the others read what it found
            manifest = build_manifest(task.project.located(self.dataset), task.wanted.threads, checked)
        write_manifest(part_of(manifest, self.part), task.outputs["rows"], task.key.own)
        if self.part == WHOLE and manifest.ledger is not None:
            write_ledger(manifest.ledger, task.outputs["rows"], task.key.own)

    def _remember(self, task: Task) -> None:
        """Store what was asked for and the contents that the verdict is about.

        :meth:`foundad.plan.keys.Keys.again` reads both.
        """
        from foundad.files import write_text

        found = {"asked": task.again, "contents": task.keys().contents(self.dataset).whole}
        write_text(task.results.again(self.dataset, self.part), json.dumps(found) + "\n")
