"""Magnetic tile defects: MT_<kind>/Imgs with photographs (.jpg) and masks (.png) side by side; MT_Free is normal.

One category, no published split. The normal images are sorted by the SHA-256 of their file names: the first fifth are
test images, the others the pool for the draws. All defective images are test images. Some masks are empty, and
``strict: false`` leaves those images out. In a mask, grey values above 127 are defects (key ``mask_threshold``).
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry, folders_in, images_in
from foundad.data.layout import Around, Layout, Unread

NORMAL_KIND = "Free"
TEST_SHARE = 5  # one in five normal images is a test image


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every photograph of every kind."""
    category = next(iter(dataset.folders or ["magnetic_tile"]))
    for folder in folders_in(root):
        kind = folder.name.removeprefix("MT_")
        if kind == folder.name:
            continue
        pictures = images_in(folder / "Imgs")
        masks = {path.stem: path for path in pictures if path.suffix.lower() == ".png"}
        photographs = [path for path in pictures if path.suffix.lower() != ".png"]
        if kind == NORMAL_KIND:
            photographs.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
        for number, path in enumerate(photographs):
            normal = kind == NORMAL_KIND
            split = "train" if normal and number >= len(photographs) // TEST_SHARE else "test"
            defect = "good" if normal else kind.lower()
            mask = masks.get(path.stem)
            yield Entry(
                f"{category}/{split}/{defect}/{path.stem}",
                category,
                split,
                int(not normal),
                defect,
                path.relative_to(root).as_posix(),
                None if normal or mask is None else mask.relative_to(root).as_posix(),
            )


def unread(path: PurePosixPath, around: Around) -> Unread:
    """Why the picture ``path`` is not taken."""
    if len(path.parts) == 3 and path.parts[0].startswith("MT_") and path.parts[1] == "Imgs":
        normal = path.parts[0] == f"MT_{NORMAL_KIND}"
        return Unread("a mask of a normal image" if normal else "a mask without an image")
    return Unread("in no folder MT_<kind>/Imgs")


LAYOUT = Layout(read, unread=unread)
