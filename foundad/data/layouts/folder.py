"""A user's own pictures: train/ with normal ones, test/good, test/<anything else>, masks in ground_truth/ if there are any.

The layout of one MVTec category, without the category's folder and without train/good. The dataset's id names its only
category.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry, images_in
from foundad.data.layout import Layout
from foundad.data.layouts import mvtec


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every image below ``root``."""
    found = mvtec.read_category(root, dataset.id, root)
    yield from found
    for path in images_in(root / "train"):
        entry = Entry("", dataset.id, "train", 0, mvtec.NORMAL, path.relative_to(root).as_posix(), None)
        yield replace(entry, image_id=f"{dataset.id}/train/good/{path.stem}")


LAYOUT = Layout(read, unread=mvtec.unread, one_category=True)
