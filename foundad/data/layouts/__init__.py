"""Directory layouts: one file each, a function from a folder to the images in it. The dict below is the registry."""

from collections.abc import Callable, Iterator
from pathlib import Path

from foundad.config import Dataset
from foundad.data.layouts import elpv, folder, mvtec
from foundad.data.layouts.entry import Entry

READERS: dict[str, Callable[[Path, Dataset], Iterator[Entry]]] = {
    "mvtec": mvtec.read,
    "elpv": elpv.read,
    "folder": folder.read,
}
