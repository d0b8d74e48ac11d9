"""Matches masks to pictures by their names and folders; no file is opened."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from foundad.own.words import pictured, plain, role_of


@dataclass(frozen=True)
class Matched:
    """The mask of a picture: its path, which may be a folder of several, and the files that it is made of."""

    path: str
    files: tuple[str, ...]


def match(pictures: Iterable[str], masks: Iterable[str]) -> dict[str, Matched]:
    """Picture -> its mask. Of several pictures of one name it is the one that shares the most folders with the mask.

    A mask that fits two pictures equally well, or a second mask of a picture, belongs to none. A folder of masks that is
    named like a picture is the mask of that picture.
    """
    by_stem: dict[str, list[str]] = defaultdict(list)
    for picture in pictures:
        by_stem[PurePosixPath(picture).stem.casefold()].append(picture)
    found: dict[str, list[Matched]] = defaultdict(list)
    folders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for mask in masks:
        path = PurePosixPath(mask)
        own = _nearest(path, by_stem.get(pictured(path.stem).casefold(), []) or by_stem.get(path.stem.casefold(), []))
        whole = (
            None if role_of(path.parent.name) else _nearest(path.parent, by_stem.get(path.parent.name.casefold(), []))
        )
        if whole is not None and (own is None or path.parent.name not in PurePosixPath(own).parts):
            folders[str(path.parent), whole].append(mask)
        elif own is not None:
            found[own].append(Matched(mask, (mask,)))
    for (folder, own), files in folders.items():
        found[own].append(Matched(folder, tuple(files)))
    return {picture: given[0] for picture, given in found.items() if len(given) == 1}


def _nearest(mask: PurePosixPath, pictures: list[str]) -> str | None:
    """The picture that shares the most folders with ``mask``; None if there is none, or two are equally near."""
    folders = {plain(part) for part in mask.parts[:-1]}
    if any(role_of(part) == "normal" for part in mask.parts[:-1]):
        return None

    def shared(picture: str) -> int:
        return len(folders & {plain(part) for part in PurePosixPath(picture).parts[:-1]})

    ranked = sorted(pictures, key=shared, reverse=True)
    if not ranked or (len(ranked) > 1 and shared(ranked[0]) == shared(ranked[1])):
        return None
    return ranked[0]
