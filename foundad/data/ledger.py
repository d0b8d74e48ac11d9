"""The ledger of a dataset: every file below its folder is used, or left out with a reason.

Made beside the manifest by :mod:`foundad.data.verify`; people read it (``data check``, captions of tables) and no number
depends on it. Only names are looked at here, no file is opened.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from foundad.data.layouts.entry import HEATMAP, IMAGE_SUFFIXES
from foundad.files import write_text

SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
SHOWN = 20


@dataclass(frozen=True)
class LeftOut:
    """Files that are not used for one reason: how many, and the names of the first, relative to the dataset's folder."""

    reason: str
    count: int
    files: list[str]


@dataclass(frozen=True)
class Ledger:
    """Counts of files, and what people should know of a dataset.

    found: all files; used: images, masks and lists. notes: for captions of tables. remarks: for ``data check`` alone.
    """

    found: int = 0
    used: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def account(
    root: Path, folders: Iterable[Path], used: set[str], reason: Callable[[PurePosixPath], str]
) -> tuple[int, list[LeftOut]]:
    """How many files there are below ``folders``, and those that are not ``used``, by reason.

    Args:
        root: what ``used`` and the names in the result are relative to.
        reason: of the layout, why it does not read an image file of this name.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    found = 0
    names = sorted({name for folder in folders for name in files_below(folder, root)})
    known = set(names)
    for name in names:
        found += 1
        if name not in used:
            groups[_general_reason(PurePosixPath(name), known) or reason(PurePosixPath(name))].append(shown(name))
    return found, [LeftOut(why, len(names), names[:SHOWN]) for why, names in sorted(groups.items())]


def files_below(folder: Path, root: Path) -> Iterator[str]:
    """Names relative to ``root`` of all files below ``folder``; each real folder is entered once, however it is linked."""
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            status = os.stat(current)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                items = sorted(entries, key=lambda item: item.name)
        except OSError:
            yield current.relative_to(root).as_posix()  # counted as one file that nobody can use
            continue
        for item in items:
            if _is_folder(item):
                waiting.append(Path(item.path))
            else:
                yield Path(item.path).relative_to(root).as_posix()


def _is_folder(item: "os.DirEntry[str]") -> bool:
    try:
        return item.is_dir()
    except OSError:
        return False


def _general_reason(path: PurePosixPath, known: set[str]) -> str | None:
    """Why no layout reads a file of this name, or None where its layout must say."""
    if path.name.lower() in SYSTEM_FILES or "__MACOSX" in path.parts or path.name == ".DS_Store":
        return "file of an operating system"
    if any(part.startswith(".") for part in path.parts):
        return "hidden"
    suffix = path.suffix.lower()
    if path.name.endswith(HEATMAP):
        stem = path.name.removesuffix(HEATMAP)
        if any(path.with_name(stem + kind).as_posix() in known for kind in _spellings()):
            return "heatmap that foundad predict wrote"
    if suffix not in IMAGE_SUFFIXES:
        return f"unknown suffix {suffix}" if suffix else "no suffix"
    return None


def _spellings() -> Iterator[str]:
    for suffix in sorted(IMAGE_SUFFIXES):
        yield suffix
        yield suffix.upper()


def shown(name: str | Path) -> str:
    """``name`` on one line of UTF-8: what is neither is escaped."""
    text = os.fsencode(str(name)).decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def lines(ledger: Ledger) -> list[str]:
    """The ledger in words: one line for the sum, one for every reason."""
    left = ledger.found - ledger.used
    found = [f"files: {ledger.found} found = {ledger.used} used + {left} left out"]
    for group in ledger.left_out:
        names = ", ".join(group.files[:3]) + (", ..." if group.count > 3 else "")
        found.append(f"  left out: {group.count}, {group.reason}: {names}")
    return found


def write_ledger(ledger: Ledger, path: Path) -> None:
    """Write ``ledger`` as JSON; the same ledger gives the same bytes."""
    write_text(path, json.dumps(asdict(ledger), indent=1, ensure_ascii=False) + "\n")


def read_ledger(path: Path) -> Ledger:
    """What :func:`write_ledger` wrote.

    Raises:
        BrokenFile: it is not such a file.
    """
    from foundad.errors import BrokenFile

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["left_out"] = [LeftOut(**group) for group in values["left_out"]]
        return Ledger(**values)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BrokenFile(f"{path}: is no ledger of a dataset; delete it, the next call makes it again") from None
