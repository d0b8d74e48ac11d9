"""The layout of MVTec AD: <category>/{train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png}.

Masks are found by the image's stem, with or without ``_mask``, whatever their extension: numbering restarts in every
folder, so position says nothing.
"""

from collections.abc import Iterator
from pathlib import Path

from foundad.config import Dataset
from foundad.data.layouts.entry import Entry, folders_in, images_in

NORMAL = "good"


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every image of every category of ``dataset`` below ``root``."""
    categories = dataset.folders or {folder.name: folder.name for folder in folders_in(root)}
    for category, relative in categories.items():
        yield from read_category(root, category, root / relative)


def read_category(root: Path, category: str, folder: Path) -> Iterator[Entry]:
    """Every image of one category in ``folder``, paths relative to ``root``."""
    for path in images_in(folder / "train" / NORMAL):
        yield _entry(root, category, "train", NORMAL, path, None)
    for defect in folders_in(folder / "test"):
        masks = {mask.stem.removesuffix("_mask"): mask for mask in images_in(folder / "ground_truth" / defect.name)}
        for path in images_in(defect):
            yield _entry(root, category, "test", defect.name, path, masks.get(path.stem))


def _entry(root: Path, category: str, split: str, defect: str, path: Path, mask: Path | None) -> Entry:
    return Entry(
        image_id=f"{category}/{split}/{defect}/{path.stem}",
        category=category,
        split=split,
        label=int(defect != NORMAL),
        defect=defect,
        image_path=path.relative_to(root).as_posix(),
        mask_path=None if mask is None or defect == NORMAL else mask.relative_to(root).as_posix(),
    )
