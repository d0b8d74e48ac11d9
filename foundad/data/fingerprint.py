"""What the plan knows of a dataset before anything runs: hashes of its contents, and how many images there are to draw from.

The layout says which files it reads, by the entries it gives; lists count by what they say. Three hashes, because stages read
different parts: a mask that changes makes no feature stale. No pixel is decoded (but where a layout must, kolektor's).
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from foundad.config import Dataset
from foundad.data.layouts import READERS
from foundad.data.layouts.entry import Entry
from foundad.data.location import image_root
from foundad.errors import UserError
from foundad.hashes import ABSENT, Hashes


@dataclass(frozen=True)
class Contents:
    """Hashes of what stages read, and the normal images that draws may take, by category.

    train: ids and bytes of these images. test: those of the test images, and their labels. truth: the same with the masks.
    whole: all of it. What is not here is ``absent``.
    """

    train: str
    test: str
    truth: str
    normal: dict[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> str:
        """Train, test and truth in one hash."""
        return _digest([self.train, self.truth])

    def of(self, part: str) -> str:
        """``train``, ``test``, ``truth`` or ``whole`` by name."""
        return str(getattr(self, part))


def contents(dataset: Dataset, hashes: Hashes) -> Contents:
    """Hash everything that the layout of ``dataset`` reads; a layout that refuses its folder is known by its reason."""
    try:
        root = image_root(dataset)
        entries = sorted(READERS[dataset.layout](root, dataset))
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
    parts = Contents(_digest(train), _digest(test), _digest(truth), normal)
    # Which images ``strict: false`` leaves out depends on all of them, masks included.
    return parts if dataset.strict else _same(parts.whole, normal)


def _same(digest: str, normal: dict[str, int] | None = None) -> Contents:
    return Contents(digest, digest, digest, normal or {})


def _image(entry: Entry, hashes: dict[str, str]) -> str:
    return "\0".join([entry.image_id, entry.category, str(entry.label), entry.image_path, hashes[entry.image_path]])


def _truth(entry: Entry, hashes: dict[str, str]) -> str:
    mask = entry.mask_path
    return "\0".join([_image(entry, hashes), entry.defect, mask or "", hashes[mask] if mask else ""])


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
