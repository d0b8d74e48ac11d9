"""Directory layouts: one file each, a function from a folder to the images in it. The dicts below are the registry."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from foundad.config import Dataset
from foundad.data.layouts import elpv, folder, kolektor, mtd, mvtec, mvtec_ad_2, real_iad, table, visa
from foundad.data.layouts.entry import Entry
from foundad.data.layouts.unread import Around, Unread, not_listed

READERS: dict[str, Callable[[Path, Dataset], Iterator[Entry]]] = {
    "mvtec": mvtec.read,
    "mvtec-ad-2": mvtec_ad_2.read,
    "visa": visa.read,
    "mtd": mtd.read,
    "kolektor": kolektor.read,
    "real-iad": real_iad.read,
    "elpv": elpv.read,
    "folder": folder.read,
    "table": table.read,
}


def _no_lists(root: Path, dataset: Dataset) -> list[str]:
    return []


# Files beside images and masks that a layout reads, relative to the root.
LISTS: dict[str, Callable[[Path, Dataset], list[str]]] = {
    "mvtec": _no_lists,
    "mvtec-ad-2": _no_lists,
    "visa": visa.lists,
    "mtd": _no_lists,
    "kolektor": kolektor.lists,
    "real-iad": real_iad.lists,
    "elpv": elpv.lists,
    "folder": _no_lists,
    "table": table.lists,
}

# Why a picture that lies there is not taken.
UNREAD: dict[str, Callable[[PurePosixPath, Around], Unread]] = {
    "mvtec": mvtec.unread,
    "mvtec-ad-2": mvtec_ad_2.unread,
    "visa": not_listed,
    "mtd": mtd.unread,
    "kolektor": kolektor.unread,
    "real-iad": not_listed,
    "elpv": elpv.unread,
    "folder": folder.unread,
    "table": not_listed,
}
