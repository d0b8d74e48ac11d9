"""The layout of MVTec AD 2: <category>/{train/good, validation/good, test_public/{good,bad,ground_truth/bad}}.

The private test sets have no published ground truth and are left out. Validation images are normal and stay out of the draws.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry, folders_in, images_in
from foundad.data.layout import Around, Layout, Unread
from foundad.data.layouts import mvtec


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every image of every category of ``dataset`` below ``root``."""
    categories = dataset.folders or {folder.name: folder.name for folder in folders_in(root)}
    for category, relative in categories.items():
        folder = root / relative
        for path in images_in(folder / "train" / mvtec.NORMAL):
            yield mvtec.entry(root, category, "train", mvtec.NORMAL, path, None)
        public = folder / "test_public"
        yield from mvtec.read_test(root, category, public, public / "ground_truth")


def unread(path: PurePosixPath, around: Around) -> Unread:
    """Why the picture ``path`` is not taken."""
    parts = around.inside(path)
    if parts[0].startswith("test_private"):
        return Unread("private test set")
    below = len(path.parts) - len(parts)
    category = path.parts[:below]
    if parts[:2] == ("test_public", "ground_truth"):
        return mvtec.unread(PurePosixPath(*category, *parts[1:]), around)
    top = "test" if parts[0] == "test_public" else parts[0]
    return mvtec.unread(PurePosixPath(*category, top, *parts[1:]), around)


LAYOUT = Layout(read, unread=unread, by_category=True)
