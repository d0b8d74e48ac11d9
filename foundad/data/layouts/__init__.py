"""Directory layouts: one file each, a function from a folder to the images in it. The dict below is the registry."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

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

# What each layout says of data that it does not read: lines on what must be renamed, and why a file is left out.
PROBLEMS: dict[str, Callable[[Path, Dataset], Iterator[str]]] = {
    "mvtec": mvtec.problems,
    "mvtec-ad-2": mvtec_ad_2.problems,
    "folder": folder.problems,
}
WHY_LEFT_OUT: dict[str, Callable[[PurePosixPath], str]] = {
    "mvtec": mvtec.why_left_out,
    "mvtec-ad-2": mvtec.why_left_out,
    "folder": mvtec.why_left_out,
    "mtd": mtd.why_left_out,
    "kolektor": kolektor.why_left_out,
}
LISTS: dict[str, tuple[str, ...]] = {
    "visa": (visa.SPLIT,),
    "table": table.NAMES,
    "elpv": (elpv.LABELS,),
    "real-iad": (f"{real_iad.LISTS}/*.json", f"{real_iad.LISTS}/{real_iad.LISTS}/*.json"),
}


def why_left_out(layout: str, path: PurePosixPath) -> str:
    """Why ``layout`` does not read an image file, by its name relative to the root."""
    return WHY_LEFT_OUT[layout](path) if layout in WHY_LEFT_OUT else "no list names it"
