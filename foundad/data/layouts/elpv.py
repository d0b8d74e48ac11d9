"""The package elpv-dataset: 2,624 photographs of solar cells, labelled with a defect probability, no masks.

Cells with probability 0.0 are normal, with 1.0 defective; those between (1/3 and 2/3, where the experts were not sure)
are left out, and the manifest's notes say how many. The package has no split. The images of a category are sorted by
the SHA-256 of their file names: the first normal and defective ones are the test set, the other normal ones the pool
for the draws.
"""

import csv
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry, listed_name, listed_path
from foundad.data.layout import Around, Layout, Unread
from foundad.errors import MachineError, UserError

TEST_IMAGES = 100  # per label and category
PACKAGE, LABELS = "elpv_dataset", "labels.csv"


def package_root() -> Path:
    """Folder of the package's images and labels; MachineError if the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MachineError(
            "config/datasets/elpv.yaml: the package elpv-dataset is not installed: pip install elpv-dataset"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def labels(root: Path) -> list[tuple[str, float, str]]:
    """(path relative to ``root``, defect probability, category) of every image; UserError if the list is unreadable."""
    path = root / LABELS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; reinstall the package elpv-dataset") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not in UTF-8; reinstall the package elpv-dataset") from None
    rows = csv.reader((line for line in lines if line.strip()), delimiter=" ", skipinitialspace=True)
    try:
        return [
            (listed_path(name, str(path)), float(probability), listed_name(category, str(path)))
            for name, probability, category in rows
        ]
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: is not ELPV's list ({error}); reinstall the package elpv-dataset") from None


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Test images and normal pool of every category."""
    found = labels(root)
    for category in dataset.folders or sorted({name for *_, name in found}):
        for label, probability in ((0, 0.0), (1, 1.0)):
            names = [name for name, value, kind in found if kind == category and value == probability]
            names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
            for number, name in enumerate(names):
                split = "test" if number < TEST_IMAGES else "train"
                if label and split == "train":
                    continue
                defect = "defective" if label else "good"
                yield Entry(
                    f"{category}/{split}/{defect}/{Path(name).stem}", category, split, label, defect, name, None
                )


def notes(root: Path) -> list[str]:
    """What a reader of the manifest must know."""
    left_out = sum(0 < probability < 1 for _, probability, _ in labels(root))
    return [f"{left_out} images with a defect probability between 0 and 1 are left out"]


def lists(root: Path, dataset: Dataset) -> list[str]:
    """The list of probabilities."""
    return [LABELS]


def unread(path: PurePosixPath, around: Around) -> Unread:
    """Why the picture ``path`` is not taken."""
    probability, category = _known(around.root, (around.root / LABELS).stat().st_mtime_ns).get(
        path.as_posix(), (None, None)
    )
    if probability is None:
        return Unread("no list names it")
    if around.dataset.folders and category not in around.dataset.folders:
        return Unread("its category is not chosen")
    if 0 < probability < 1:
        return Unread("a defect probability between 0 and 1")
    return Unread(f"defective, beyond the {TEST_IMAGES} of the test set")


@lru_cache(1)
def _known(root: Path, changed: int) -> dict[str, tuple[float, str]]:
    return {name: (probability, category) for name, probability, category in labels(root)}


LAYOUT = Layout(read, lists, unread, notes, own_root=package_root)
