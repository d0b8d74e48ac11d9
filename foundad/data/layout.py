"""The contract of a directory layout: what it declares, and how it says why a file is not taken."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry


@dataclass(frozen=True)
class Unread:
    """Why a file is not taken. With a cure it is a problem: the file is almost certainly data.

    mask: the file is a mask by its place.
    """

    reason: str
    cure: str | None = None
    mask: bool = False


@dataclass(frozen=True)
class Around:
    """What a layout needs to judge a file: the dataset, and which of its files are used (relative to the root).

    one_category: the root itself is the folder of the dataset's only category.
    """

    root: Path
    dataset: Dataset
    used: set[str]
    one_category: bool = False

    def category(self, name: str) -> str:
        """The category in whose folder ``name`` lies."""
        path = PurePosixPath(name)
        if self.one_category:
            return self.dataset.id
        for category, folder in (self.dataset.folders or {}).items():
            if path.is_relative_to(folder):
                return category
        return path.parts[0] if path.parts else ""

    def inside(self, path: PurePosixPath) -> tuple[str, ...]:
        """The parts of ``path`` below the folder of its category."""
        if self.one_category:
            return path.parts
        for folder in (self.dataset.folders or {}).values():
            if path.is_relative_to(folder):
                return path.relative_to(folder).parts
        return path.parts[1:] or path.parts

    @cached_property
    def masked(self) -> set[str]:
        """Categories with at least one used mask."""
        return {self.category(name) for name in self.used if "ground_truth" in PurePosixPath(name).parts}

    @cached_property
    def tested(self) -> set[str]:
        """Categories with at least one used test image."""
        tops = {name: (*self.inside(PurePosixPath(name)), "")[0] for name in self.used}
        return {self.category(name) for name, top in tops.items() if top in ("test", "test_public")}


def not_listed(path: PurePosixPath, around: Around) -> Unread:
    """For layouts with a list: no list names the file."""
    chosen = ", or its category is not chosen" if around.dataset.folders else ""
    return Unread(f"no list names it{chosen}")


def no_lists(root: Path, dataset: Dataset) -> list[str]:
    """For layouts that read only images and masks."""
    return []


def no_notes(root: Path) -> list[str]:
    """For layouts without notes."""
    return []


@dataclass(frozen=True)
class Layout:
    """How a folder becomes the images of a dataset; every file of foundad/data/layouts/ declares one as ``LAYOUT``.

    read: yields every image below the root. lists: other files that it reads, relative to the root. unread: why a
    picture below the root is not taken. notes: what a reader of the manifest must know. own_root: the folder of the
    images if the config names none; None: the config must name one. by_category: every category has a folder of its
    own, and other folders are not searched. one_category: the root itself is the folder of the only category.
    looked_in: where normal images are looked for, as a message says it.
    """

    read: Callable[[Path, Dataset], Iterator[Entry]]
    lists: Callable[[Path, Dataset], list[str]] = no_lists
    unread: Callable[[PurePosixPath, Around], Unread] = not_listed
    notes: Callable[[Path], list[str]] = no_notes
    own_root: Callable[[], Path] | None = None
    by_category: bool = False
    one_category: bool = False
    looked_in: str = ""

    def folders(self, dataset: Dataset) -> list[str]:
        """The folders that belong to a dataset, relative to its root: those of its categories, or the root itself."""
        named = dataset.folders if self.by_category else None
        return list(named.values()) if named else ["."]
