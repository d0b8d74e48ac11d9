"""Real-IAD: realiad_jsons/[realiad_jsons/]<category>.json lists the images of realiad_<size>/<category>, train and test.

Each JSON holds ``meta`` (``normal_class``, ``prefix``), ``train`` and ``test``: lists of ``image_path``, ``mask_path`` (null
where normal) and ``anomaly_class``.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry, listed_name, listed_path
from foundad.data.layout import Layout
from foundad.errors import UserError

LISTS = "realiad_jsons"


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every image of the chosen categories, in the split of their JSON."""
    # The archive of lists holds the standard split in a folder of the same name, beside other protocols.
    lists = root / LISTS / LISTS if (root / LISTS / LISTS).is_dir() else root / LISTS
    names = list(dataset.folders or sorted(path.stem for path in lists.glob("*.json")))
    folders = sorted(path for path in root.glob("realiad_*") if path.is_dir() and path.name != LISTS)
    if len(folders) != 1:
        found = ", ".join(path.name for path in folders) or "none"
        raise UserError(f"{root}: must hold one folder of images such as realiad_1024, not: {found}")
    for category in names:
        path = lists / f"{category}.json"
        listed = _load(path)
        prefix = Path(
            folders[0].name, listed_path(listed["meta"].get("prefix", category), f"{path}: key prefix of meta")
        )
        normal = listed["meta"].get("normal_class", "OK")
        for split in ("train", "test"):
            for number, row in enumerate(listed[split]):
                where = f"{path}: row {number} of {split}"
                if not isinstance(row, dict) or not isinstance(row.get("anomaly_class"), str):
                    raise UserError(f"{where}: has no anomaly_class; use the file as it is distributed")
                image = listed_path(row.get("image_path"), where)
                anomalous = row["anomaly_class"] != normal
                if anomalous and split == "train":
                    raise UserError(f"{path}: {image} is anomalous and in train; only normal images may be")
                defect = listed_name(row["anomaly_class"], where) if anomalous else "good"
                mask = row.get("mask_path")
                yield Entry(
                    f"{category}/{split}/{defect}/{Path(image).with_suffix('').as_posix().replace('/', '-')}",
                    category,
                    split,
                    int(anomalous),
                    defect,
                    (prefix / image).as_posix(),
                    (prefix / listed_path(mask, where)).as_posix() if anomalous and mask else None,
                )


def _load(path: Path) -> dict[str, Any]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        assert {"meta", "train", "test"} <= set(listed)
        assert isinstance(listed["meta"], dict)
        assert isinstance(listed["train"], list)
        assert isinstance(listed["test"], list)
        assert isinstance(listed["meta"].get("prefix", ""), str)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; root must hold {LISTS} and the images") from None
    except (ValueError, AssertionError, TypeError, RecursionError):
        raise UserError(f"{path}: is not a list of Real-IAD: it needs the keys meta, train and test") from None
    return dict(listed)


def lists(root: Path, dataset: Dataset) -> list[str]:
    """The JSON files of the chosen categories."""
    folder = f"{LISTS}/{LISTS}" if (root / LISTS / LISTS).is_dir() else LISTS
    names = dataset.folders or sorted(path.stem for path in (root / folder).glob("*.json"))
    return [f"{folder}/{name}.json" for name in names]


LAYOUT = Layout(read, lists)
