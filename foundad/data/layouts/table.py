"""A user's own list: a CSV or Parquet file with the columns image, split, label, and optionally category, defect, mask.

``split`` is train or test, ``label`` normal or anomalous (or 0 or 1); paths are relative to the folder of the file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry, cut, listed_name, listed_path, read_rows
from foundad.data.layout import Layout
from foundad.errors import UserError

NAMES = ("images.csv", "images.parquet")
LABELS = {"normal": 0, "good": 0, "0": 0, "anomalous": 1, "anomaly": 1, "1": 1}


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every row of images.csv or images.parquet in ``root``."""
    found = [root / name for name in NAMES if (root / name).is_file()]
    if len(found) != 1:
        raise UserError(f"{root}: must hold one of {' and '.join(NAMES)}, the list of the layout 'table'")
    path = found[0]
    for number, row in enumerate(_rows(path), 2):
        values = {key: "" if value is None else str(value).strip() for key, value in row.items() if key}
        for column, allowed in (("image", None), ("split", ("train", "test")), ("label", LABELS)):
            value = values.get(column, "")
            if not value or (allowed is not None and value not in allowed):
                hint = f"; it is one of {', '.join(allowed)}" if allowed else ""
                raise UserError(f"{path}: line {number}: column '{column}' is '{cut(value)}'{hint}")
        label = LABELS[values["label"]]
        if label and values["split"] == "train":
            raise UserError(f"{path}: line {number}: an anomalous image is in train; only normal ones may be")
        where = f"{path}: line {number}"
        category = listed_name(values.get("category") or dataset.id, where)
        if dataset.folders and category not in dataset.folders:
            continue
        defect = listed_name(values.get("defect") or "anomaly", where) if label else "good"
        image = listed_path(values["image"], where)
        name = Path(image).with_suffix("").as_posix().replace("/", "-")
        yield Entry(
            f"{category}/{values['split']}/{defect}/{name}",
            category,
            values["split"],
            label,
            defect,
            image,
            listed_path(values["mask"], where) if label and values.get("mask") else None,
        )


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return read_rows(path, ("image", "split", "label"))
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.ParquetFile(path).read(use_threads=False).to_pylist())
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is not a Parquet file ({reason}); write it again") from None


def lists(root: Path, dataset: Dataset) -> list[str]:
    """The list that says what the images are."""
    return [name for name in NAMES if (root / name).is_file()]


LAYOUT = Layout(read, lists)
