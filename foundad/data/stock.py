"""Takes stock of a dataset: finds a reason for every file that its layout does not take.

Makes the content of the ledger (:mod:`foundad.data.ledger`) by walking the dataset's folder once; no file is opened.
Files that are almost certainly data and would be dropped are problems, just like broken files.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry
from foundad.data.layout import Around, Unread
from foundad.data.layouts import layout_of
from foundad.data.ledger import LeftOut
from foundad.data.listing import HEATMAP, IMAGE_SUFFIXES, walk
from foundad.data.masks import mask_files

NAMED = 20  # files of each reason that the ledger names
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
SYSTEM_FOLDERS = {"__macosx", "$recycle.bin", "@eadir"}
NOTES_OF_PEOPLE = {"", ".txt", ".md", ".rst", ".json", ".csv", ".xml", ".yaml", ".yml", ".pdf", ".html"}


@dataclass(frozen=True)
class Stock:
    """Files of a dataset: how many were found and used, those left out, and the problems among these.

    problems: one line per folder and reason. instead: category -> what was found there instead.
    """

    found: int
    used: int
    left_out: list[LeftOut]
    problems: list[str]
    instead: dict[str, str]


def take_stock(dataset: Dataset, root: Path, entries: Iterable[Entry], kept: Iterable[Entry]) -> Stock:
    """Look for a reason for every file of ``dataset`` that is not used.

    Args:
        entries: all that the layout lists.
        kept: those of them that are in the manifest.
    """
    layout = layout_of(dataset.layout)
    used = _files_of(root, kept) | {name for name in layout.lists(root, dataset) if (root / name).is_file()}
    broken = _files_of(root, entries) - used
    found = sorted(set(walk(root, layout.folders(dataset))) | used)
    stems = defaultdict(set)
    for name in found:
        path = PurePosixPath(name)
        stems[path.parent].add(path.stem)
    around = Around(root, dataset, used, layout.one_category)
    reasons: dict[str, list[str]] = defaultdict(list)
    problems: dict[tuple[str, Unread], list[str]] = defaultdict(list)
    for name in found:
        if name in used:
            continue
        path = PurePosixPath(name)
        unread = Unread("broken or duplicate (strict: false)") if name in broken else _system(path, stems[path.parent])
        unread = unread or _unread(path, around)
        reasons[unread.reason].append(name)
        if unread.cure:
            problems[path.parent.as_posix(), unread].append(path.name)
    left_out = [
        LeftOut(reason, len(names), [shown(name) for name in names[:NAMED]]) for reason, names in reasons.items()
    ]
    lines = [
        f"{shown(str(root / folder))}: {len(names)} files {unread.reason} (first: {shown(names[0])}); {unread.cure}"
        for (folder, unread), names in problems.items()
    ]
    instead: dict[str, list[str]] = defaultdict(list)
    for (folder, _), names in problems.items():
        instead[around.category(folder)].append(f"{shown(folder)} ({len(names)} files)")
    left_out.sort(key=lambda kind: (-kind.count, kind.reason))
    return Stock(len(found), len(used), left_out, lines, {name: ", ".join(found) for name, found in instead.items()})


def shown(name: str) -> str:
    """``name`` of a file as one line of text, whatever bytes it is made of."""
    readable = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in readable)


def is_text(name: str) -> bool:
    """Whether the bytes of a file's name are UTF-8, so that a manifest can hold it."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _files_of(root: Path, entries: Iterable[Entry]) -> set[str]:
    """Images and masks of ``entries``; for a mask folder its pictures."""
    files = set()
    for entry in entries:
        files.add(entry.image_path)
        if entry.mask_path is not None:
            files |= {path.relative_to(root).as_posix() for path in mask_files(root / entry.mask_path)}
    return files


def _system(path: PurePosixPath, stems: set[str]) -> Unread | None:
    """The reason if a file is hidden, of the operating system or a heatmap; ``stems`` are those of its folder."""
    if any(part.startswith(".") for part in path.parts):
        return Unread("hidden")
    if path.name.casefold() in SYSTEM_FILES or any(part.casefold() in SYSTEM_FOLDERS for part in path.parts):
        return Unread("a file of the operating system")
    if path.name.endswith(HEATMAP) and path.name.removesuffix(HEATMAP) in stems:
        return Unread("a heatmap of foundad predict")
    return None


def _unread(path: PurePosixPath, around: Around) -> Unread:
    """Why the layout does not take ``path``."""
    suffix = path.suffix.lower()
    of_mask = layout_of(around.dataset.layout).unread(path, around)
    if suffix in IMAGE_SUFFIXES:
        return of_mask
    if suffix not in NOTES_OF_PEOPLE and of_mask.mask and of_mask.cure:
        return of_mask
    return Unread(f"unknown suffix {shown(suffix)}" if suffix else "no suffix")
