"""Directory layouts: one file each, a function from a folder to the images in it. The dict below is the registry."""

from collections.abc import Callable, Iterator
from pathlib import Path

from foundad.config import Dataset
from foundad.data.layouts import elpv, folder, kolektor, mtd, mvtec, mvtec_ad_2, real_iad, table, visa
from foundad.data.layouts.entry import Entry

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
