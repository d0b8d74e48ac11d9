"""What the plan knows of a dataset before anything runs: a hash of its files, and how many images there are to draw from."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from foundad.config import Dataset
from foundad.data.layouts import READERS
from foundad.data.location import image_root
from foundad.errors import UserError


def fingerprint(dataset: Dataset) -> str:
    """Hash of names and sizes of all files of ``dataset``; ``absent`` if its folder is not there. Reads no pixel."""
    try:
        root = image_root(dataset)
    except UserError:
        return "absent"
    named = dataset.folders if dataset.layout != "elpv" else None
    folders = [root / folder for folder in named.values()] if named else [root]
    digest = hashlib.sha256()
    for folder in folders:
        for name, size in sorted(_files(folder, "")):
            digest.update(f"{folder.name}/{name}\0{size}\n".encode())
    return digest.hexdigest()[:16]


def count_normal(dataset: Dataset) -> dict[str, int]:
    """Normal training images of every category, by name alone: no file is opened."""
    root = image_root(dataset)
    counts: dict[str, int] = defaultdict(int)
    for entry in READERS[dataset.layout](root, dataset):
        counts[entry.category] += entry.split == "train"
    return counts


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as found:
            for item in found:
                if item.is_dir():
                    yield from _files(Path(item.path), f"{prefix}{item.name}/")
                else:
                    yield prefix + item.name, item.stat().st_size
    except OSError:
        yield prefix + "(unreadable)", 0
