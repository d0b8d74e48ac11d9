"""KolektorSDD: kosNN/PartM.jpg, each with PartM_label.bmp; an image is defective where its label has a pixel above 0.

One category, no published split. The 50 commutators are sorted by the SHA-256 of their folders' names: normal images of
the first third are test images, those of the others the pool for the draws. All defective images are test images.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry, folders_in, images_in
from foundad.data.layout import Around, Layout, Unread
from foundad.errors import UserError

TEST_SHARE = 3  # one in three commutators gives its normal images to the test set
SUFFIX = "_label"


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every part of every commutator. Opens the labels, because nothing else says which parts are defective."""
    category = next(iter(dataset.folders or ["commutator"]))
    folders = [folder for folder in folders_in(root) if folder.name.startswith("kos")]
    folders.sort(key=lambda folder: hashlib.sha256(folder.name.encode()).digest())
    for number, folder in enumerate(folders):
        pictures = images_in(folder)
        labels = {path.stem.removesuffix(SUFFIX): path for path in pictures if path.stem.endswith(SUFFIX)}
        for path in pictures:
            if path.stem.endswith(SUFFIX):
                continue
            if path.stem not in labels:
                raise UserError(
                    f"{path}: has no {path.stem}{SUFFIX}.bmp beside it; the layout needs one for every image"
                )
            from foundad.data.masks import load_mask

            defective = bool(load_mask(labels[path.stem]).any())
            split = "test" if defective or number < len(folders) // TEST_SHARE else "train"
            defect = "defect" if defective else "good"
            yield Entry(
                f"{category}/{split}/{defect}/{folder.name}-{path.stem}",
                category,
                split,
                int(defective),
                defect,
                path.relative_to(root).as_posix(),
                labels[path.stem].relative_to(root).as_posix() if defective else None,
            )


def lists(root: Path, dataset: Dataset) -> list[str]:
    """The labels: all are opened, because they say which parts are defective."""
    folders = [folder for folder in folders_in(root) if folder.name.startswith("kos")]
    labels = [path for folder in folders for path in images_in(folder) if path.stem.endswith(SUFFIX)]
    parts = {path.with_suffix("") for folder in folders for path in images_in(folder)}
    used = [path for path in labels if path.parent / path.stem.removesuffix(SUFFIX) in parts]
    return [path.relative_to(root).as_posix() for path in used]


def unread(path: PurePosixPath, around: Around) -> Unread:
    """Why the picture ``path`` is not taken."""
    if path.stem.endswith(SUFFIX):
        return Unread("a mask without an image")
    return Unread("in no folder kos<number>, or deeper in it")


LAYOUT = Layout(read, lists, unread)
