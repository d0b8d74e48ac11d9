"""The layout of MVTec AD: <category>/{train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png}.

Also that of MPDD, DTD-Synthetic, BTAD and both repackagings of VisA: normal images lie in good/ or ok/, everything else is a
defect. Masks are found by the image's stem, with or without ``_mask``, whatever their extension: numbering restarts in every
folder, so position says nothing. In MVTec LOCO the mask of an image is a folder of pictures, one a defect.
"""

from collections.abc import Iterator
from pathlib import Path

from foundad.config import Dataset
from foundad.data.layouts.entry import Entry, folders_in, images_in
from foundad.errors import UserError

NORMAL = "good"
NORMAL_FOLDERS = (NORMAL, "ok")


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every image of every category of ``dataset`` below ``root``."""
    categories = dataset.folders or {folder.name: folder.name for folder in folders_in(root)}
    for category, relative in categories.items():
        yield from read_category(root, category, root / relative)


def read_category(root: Path, category: str, folder: Path) -> Iterator[Entry]:
    """Every image of one category in ``folder``, paths relative to ``root``."""
    for name in NORMAL_FOLDERS:
        for path in images_in(folder / "train" / name):
            yield entry(root, category, "train", NORMAL, path, None)
    yield from read_test(root, category, folder / "test", folder / "ground_truth")


def read_test(root: Path, category: str, test: Path, ground_truth: Path) -> Iterator[Entry]:
    """Every image of the folders of ``test``, with its mask in the folder of the same name below ``ground_truth``."""
    for folder in folders_in(test):
        if folder == ground_truth:
            continue
        found = [*images_in(ground_truth / folder.name), *folders_in(ground_truth / folder.name)]
        masks: dict[str, Path] = {}
        for mask in found:
            other = masks.setdefault(mask.stem.removesuffix("_mask"), mask)
            if other is not mask:
                raise UserError(f"{mask}: {other.name} is a mask of the same image; remove one")
        defect = NORMAL if folder.name in NORMAL_FOLDERS else folder.name
        for path in images_in(folder):
            yield entry(root, category, "test", defect, path, masks.get(path.stem))


def entry(root: Path, category: str, split: str, defect: str, path: Path, mask: Path | None) -> Entry:
    """The entry of an image; normal ones have no mask."""
    return Entry(
        image_id=f"{category}/{split}/{defect}/{path.stem}",
        category=category,
        split=split,
        label=int(defect != NORMAL),
        defect=defect,
        image_path=path.relative_to(root).as_posix(),
        mask_path=None if mask is None or defect == NORMAL else mask.relative_to(root).as_posix(),
    )
