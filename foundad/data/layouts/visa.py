"""VisA as it is distributed: split_csv/1cls.csv names every image and mask, with the header object,split,label,image,mask.

Masks are label maps of small class indices, blank for normal images; every value above 0 is a defect.
"""

from collections.abc import Iterator
from pathlib import Path

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry, cut, listed_name, listed_path, read_rows
from foundad.data.layout import Layout
from foundad.errors import UserError

SPLIT = "split_csv/1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every image of the chosen categories, in the split of the file."""
    path = root / SPLIT
    for number, row in enumerate(read_rows(path, COLUMNS), 2):
        if dataset.folders and row["object"] not in dataset.folders:
            continue
        if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly"):
            raise UserError(
                f"{path}: line {number}: split '{cut(str(row['split']))}', label '{cut(str(row['label']))}' are not VisA's"
            )
        anomalous = row["label"] == "anomaly"
        if anomalous and row["split"] == "train":
            raise UserError(f"{path}: line {number}: an anomalous image is in train; only normal ones may be")
        defect = "anomaly" if anomalous else "good"
        image = listed_path(row["image"], f"{path}: line {number}")
        category = listed_name(row["object"], f"{path}: line {number}")
        yield Entry(
            f"{category}/{row['split']}/{defect}/{Path(image).stem}",
            category,
            row["split"],
            int(anomalous),
            defect,
            image,
            listed_path(row["mask"], f"{path}: line {number}") if anomalous and row["mask"] else None,
        )


def lists(root: Path, dataset: Dataset) -> list[str]:
    """The list that says what the images are."""
    return [SPLIT]


LAYOUT = Layout(read, lists)
