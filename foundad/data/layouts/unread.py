"""Why a layout does not take a file: the types that every layout's ``unread`` speaks."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from foundad.config import Dataset


@dataclass(frozen=True)
class Unread:
    """A reason. With a cure it is a problem: the file is almost certainly data. mask: the file is a mask by its place."""

    reason: str
    cure: str | None = None
    mask: bool = False


@dataclass(frozen=True)
class Around:
    """What a file is judged by: its dataset, and which files are used (relative to the root)."""

    root: Path
    dataset: Dataset
    used: set[str]

    def category(self, name: str) -> str:
        """The category in whose folder ``name`` lies."""
        path = PurePosixPath(name)
        if self.dataset.layout == "folder":
            return self.dataset.id
        for category, folder in (self.dataset.folders or {}).items():
            if path.is_relative_to(folder):
                return category
        return path.parts[0] if path.parts else ""

    def inside(self, path: PurePosixPath) -> tuple[str, ...]:
        """The parts of ``path`` below the folder of its category."""
        if self.dataset.layout == "folder":
            return path.parts
        for folder in (self.dataset.folders or {}).values():
            if path.is_relative_to(folder):
                return path.relative_to(folder).parts
        return path.parts[1:] or path.parts

    @cached_property
    def masked(self) -> set[str]:
        """Categories of which some mask is used."""
        return {self.category(name) for name in self.used if "ground_truth" in PurePosixPath(name).parts}

    @cached_property
    def tested(self) -> set[str]:
        """Categories of which some test image is used."""
        tops = {name: (*self.inside(PurePosixPath(name)), "")[0] for name in self.used}
        return {self.category(name) for name, top in tops.items() if top in ("test", "test_public")}


def not_listed(path: PurePosixPath, around: Around) -> Unread:
    """Of a layout with a list: what it does not name."""
    chosen = ", or its category is not chosen" if around.dataset.folders else ""
    return Unread(f"no list names it{chosen}")
