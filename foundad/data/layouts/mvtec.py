"""The layout of MVTec AD: <category>/{train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png}.

MPDD, DTD-Synthetic, BTAD and both repackagings of VisA have it as well. Normal images lie in good/ or ok/; every other
folder is a kind of defect. A mask is found by the image's stem, with or without ``_mask`` and with any extension, and
not by its position, because numbering restarts in every folder. In MVTec LOCO the mask of an image is a folder of
pictures, one per defect.

Folder names must match exactly: test/Good or test/normal counts neither as normal nor as a defect, but as a problem.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry, folders_in, images_in
from foundad.data.layout import Around, Layout, Unread
from foundad.errors import UserError

NORMAL = "good"
NORMAL_FOLDERS = (NORMAL, "ok")
LIKE_NORMAL = {
    "good", "goods", "ok", "okay", "normal", "normals", "nominal", "healthy", "clean", "defectfree", "nodefect", "nodefects",
    "nondefective", "notdefective", "anomalyfree", "noanomaly", "flawless", "intact", "io", "pass",
}  # fmt: skip
LIKE_TRUTH = {
    "groundtruth",
    "groundtruths",
    "gt",
    "mask",
    "masks",
    "annotation",
    "annotations",
    "segmentation",
    "label",
    "labels",
}
LIKE_SPLIT = {"train": "train", "training": "train", "test": "test", "testing": "test", "tests": "test"}


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
        if folder == ground_truth or looks_normal(folder.name):
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


def looks_normal(name: str) -> bool:
    """Whether a folder's name suggests normal images but is not one that the layout reads."""
    return name not in NORMAL_FOLDERS and _plain(name) in LIKE_NORMAL


def unread(path: PurePosixPath, around: Around) -> Unread:
    """Why the picture ``path`` is not taken."""
    parts = around.inside(path)
    top, kind = parts[0], parts[1] if len(parts) > 2 else ""
    category = around.category(path.as_posix())
    masked = category in around.masked or category not in around.tested
    if len(parts) == 1:
        return Unread("beside the folders of the layout")
    if top == "ground_truth" or (_plain(top) in LIKE_TRUTH and top not in ("train", "test")):
        return _unread_mask(top, kind, masked)
    if top == "validation":
        return Unread("validation images stay out of draws and tests")
    if top not in ("train", "test"):
        split = LIKE_SPLIT.get(_plain(top))
        if split is not None:
            return Unread(f"lie in '{top}', the layout reads '{split}'", f"rename the folder to {split}")
        return Unread("no folder of the layout")
    if not kind:
        return Unread(f"lie beside the folders of {top}/", f"move normal ones to {top}/{NORMAL}")
    if looks_normal(kind):
        return Unread(
            f"look like normal images, which are looked for in {top}/good and {top}/ok",
            f"rename or move '{kind}' to {NORMAL}",
        )
    if top == "train" and kind not in NORMAL_FOLDERS:
        return Unread("in train/, but neither in good/ nor in ok/")
    if len(parts) > 3:
        return Unread(f"are nested deeper than {top}/{kind}", f"move them up into {top}/{kind}, names must differ")
    return Unread("not taken by the layout")


def _unread_mask(top: str, kind: str, masked: bool) -> Unread:
    if kind in NORMAL_FOLDERS:
        return Unread("a mask of a normal image", mask=True)
    if masked:
        return Unread("a mask without an image" if top == "ground_truth" else "no folder of the layout", mask=True)
    return Unread(
        "are masks and none belongs to an image",
        "a mask is looked for as ground_truth/<defect>/<stem of the image>_mask or <stem of the image>, upper and lower case "
        "as in test/: rename them, or remove them to evaluate without masks",
        mask=True,
    )


def _plain(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())


LAYOUT = Layout(read, unread=unread, by_category=True, looked_in="train/good and train/ok")
