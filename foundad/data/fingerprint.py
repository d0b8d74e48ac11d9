"""What the plan knows about a dataset before a run: hashes of its contents, and the number of images to draw from.

The entries of the layout name the files that are hashed; list files count only through their entries. There are three
hashes, because stages read different parts: a changed mask makes no features stale. No pixel is decoded, except by
layouts that must decode masks (kolektor).
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry, place
from foundad.data.layouts import layout_of
from foundad.data.listing import walk
from foundad.data.location import image_root
from foundad.errors import UserError
from foundad.hashes import ABSENT, Hashes


@dataclass(frozen=True)
class Contents:
    """Hashes of what stages read, and the number of normal images per category that draws may take.

    train: ids, labels and bytes of the normal images. test: those of the test images. truth: those of the test images
    with defects and masks. names: names of all files in the dataset's folders, used or not. A missing file counts as
    ``absent``.
    """

    train: str
    test: str
    truth: str
    normal: dict[str, int] = field(default_factory=dict)
    names: str = ""

    @property
    def data(self) -> str:
        """Train, test and truth in one hash."""
        return _digest([self.train, self.truth])

    @property
    def whole(self) -> str:
        """Everything, including the names of unused files."""
        return _digest([self.data, self.names])

    def of(self, part: str) -> str:
        """``train``, ``test``, ``truth`` or ``whole`` by name."""
        return str(getattr(self, part))


def contents(dataset: Dataset, hashes: Hashes) -> Contents:
    """Hash everything that the layout of ``dataset`` reads; if it refuses the folder, hash the reason instead."""
    try:
        root = image_root(dataset)
        entries = sorted(layout_of(dataset.layout).read(root, dataset), key=place)
    except UserError as error:
        reason = ABSENT if dataset.expanded_root is not None and not dataset.expanded_root.is_dir() else str(error)
        return _same(_digest([reason]))
    except OSError as error:
        return _same(_digest([f"{error.strerror}: {error.filename}"]))
    names = {name for entry in entries for name in (entry.image_path, entry.mask_path) if name is not None}
    found = hashes.of((root / name for name in sorted(names)), dataset.id)
    known = {name: found[root / name] for name in names}
    train = [_image(entry, known) for entry in entries if entry.split == "train"]
    test = [_image(entry, known) for entry in entries if entry.split == "test"]
    truth = [_truth(entry, known) for entry in entries if entry.split == "test"]
    normal = dict(Counter(entry.category for entry in entries if entry.split == "train"))
    parts = Contents(_digest(train), _digest(test), _digest(truth), normal, _names(root, dataset))
    if dataset.strict:
        return parts
    # Which images ``strict: false`` leaves out depends on all of them, masks included.
    return replace(parts, train=parts.data, test=parts.data, truth=parts.data)


def _same(digest: str) -> Contents:
    return Contents(digest, digest, digest)


def _names(root: Path, dataset: Dataset) -> str:
    try:
        return _digest(sorted(walk(root, layout_of(dataset.layout).folders(dataset))))
    except UserError as error:
        return str(error)


def _image(entry: Entry, hashes: dict[str, str]) -> str:
    return "\0".join([entry.image_id, entry.category, str(entry.label), entry.image_path, hashes[entry.image_path]])


def _truth(entry: Entry, hashes: dict[str, str]) -> str:
    mask = entry.mask_path
    return "\0".join([_image(entry, hashes), entry.defect, mask or "", hashes[mask] if mask else ""])


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
