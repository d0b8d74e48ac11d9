"""VisA as it is distributed: split_csv/1cls.csv names every image and mask, with the header object,split,label,image,mask.

Masks are label maps of small class indices, blank for normal images; every value above 0 is a defect.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from foundad.config import Dataset
from foundad.data.layouts.entry import Entry
from foundad.errors import UserError

SPLIT = "split_csv/1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every image of the chosen categories, in the split of the file."""
    path = root / SPLIT
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; root must hold VisA as it is distributed") from None
    rows = csv.DictReader(lines)
    missing = [column for column in COLUMNS if column not in (rows.fieldnames or [])]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; it must be the file of the distribution")
    for number, row in enumerate(rows, 2):
        if dataset.folders and row["object"] not in dataset.folders:
            continue
        if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly"):
            raise UserError(f"{path}: line {number}: split '{row['split']}', label '{row['label']}' are not VisA's")
        anomalous = row["label"] == "anomaly"
        if anomalous and row["split"] == "train":
            raise UserError(f"{path}: line {number}: an anomalous image is in train; only normal ones may be")
        defect = "anomaly" if anomalous else "good"
        yield Entry(
            f"{row['object']}/{row['split']}/{defect}/{Path(row['image']).stem}",
            row["object"],
            row["split"],
            int(anomalous),
            defect,
            row["image"],
            (row["mask"] or None) if anomalous else None,
        )
