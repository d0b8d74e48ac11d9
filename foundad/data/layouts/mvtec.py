"""The layout of MVTec AD: <category>/{train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png}.

Also that of MPDD, DTD-Synthetic, BTAD and both repackagings of VisA: normal images lie in good/ or ok/, everything else is a
defect. Masks are found by the image's stem, with or without ``_mask``, whatever their extension: numbering restarts in every
folder, so position says nothing. In MVTec LOCO the mask of an image is a folder of pictures, one a defect.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from foundad.config import Dataset
from foundad.data.layouts.entry import Entry, folders_in, images_in
from foundad.data.layouts.spelling import NORMAL_FOLDERS, mask_stem, misfits
from foundad.errors import UserError

NORMAL = "good"


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
            other = masks.setdefault(mask_stem(mask), mask)
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


def problems(root: Path, dataset: Dataset) -> Iterator[str]:
    """Lines on folders and masks that look like data of the categories and are not read."""
    folders = dataset.folders or {folder.name: folder.name for folder in folders_in(root)}
    for relative in folders.values():
        yield from misfits(root / relative, "train", "test", "ground_truth")


def why_left_out(path: PurePosixPath) -> str:
    """Why the layout does not read an image file, by its name relative to the root."""
    folders = path.parts[:-1]
    if "ground_truth" in folders:
        folder = folders[-1] if folders[-1] != "ground_truth" else ""
        return "mask of a normal image" if folder in NORMAL_FOLDERS else "mask without an image"
    if "validation" in folders:
        return "validation image"
    if any(part.startswith("test_private") for part in folders):
        return "private test set"
    if folders and folders[-1] in ("train", "test", "test_public"):
        return "beside the folders of images"
    if "train" in folders:
        return "train folder that is not good or ok"
    return "no folder of the layout"
