"""KolektorSDD: kosNN/PartM.jpg, each with PartM_label.bmp; an image is defective where its label has a pixel above 0.

One category, no split: the SHA-256 of the folder's name orders the 50 commutators, the normal images of the first third are
test images, those of the others the pool for the draws; all defective images are test images.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from foundad.config import Dataset
from foundad.data.layouts.entry import Entry, folders_in, images_in
from foundad.errors import UserError

TEST_SHARE = 3  # the normal images of one in so many commutators
SUFFIX = "_label"


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every part of every commutator. Opens the labels, because nothing else says which parts are defective."""
    category = next(iter(dataset.folders or ["commutator"]))
    folders = [folder for folder in folders_in(root) if folder.name.startswith("kos")]
    folders.sort(key=lambda folder: hashlib.sha256(os.fsencode(folder.name)).digest())
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
            from foundad.data.images import load_mask

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


def why_left_out(path: PurePosixPath) -> str:
    """Why the layout does not read an image file, by its name relative to the root."""
    if len(path.parts) == 2 and path.parts[0].startswith("kos"):
        return "label of a normal image" if path.stem.endswith(SUFFIX) else "image without a label"
    return "not in kosNN/"
