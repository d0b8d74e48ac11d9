"""Understands a folder of pictures by its names: which are normal, which defective, which are masks, which are unlabelled.

No picture is opened, except masks where they alone say which pictures are defective. Whatever cannot be told apart is
refused with one line that says what was found; nothing is guessed.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from foundad.config.dataset import Dataset
from foundad.data.entry import LONGEST_NAME, LONGEST_PART, LONGEST_PATH
from foundad.data.layouts import layout_of
from foundad.data.listing import HEATMAP, IMAGE_SUFFIXES, walk
from foundad.data.masks import load_mask
from foundad.data.stock import SYSTEM_FILES, SYSTEM_FOLDERS, is_text, shown
from foundad.errors import UserError
from foundad.own.masks import match
from foundad.own.words import pictured, role_of, role_of_stem

NAMED = 4  # folders that a line names
# Layouts of known datasets -> a file or folder that only they have.
KNOWN = {
    "table": ("images.csv", "images.parquet"),
    "visa": ("split_csv/1cls.csv",),
    "real-iad": ("realiad_jsons",),
    "mvtec-ad-2": ("test_public", "*/test_public"),
    "mtd": ("MT_*/Imgs",),
    "kolektor": ("kos[0-9][0-9]",),
}


@dataclass(frozen=True)
class Picture:
    """One picture: its path below the folder, and what the names say of it.

    category: folders with / between them, its name in the end; empty where there is one category. split: ``train``,
    ``test``, or empty where nothing says. label: 0 normal, 1 defective, None unlabelled.
    mask: path of its mask below the folder; a folder of masks counts as one.
    """

    path: str
    category: str = ""
    split: str = ""
    label: int | None = None
    defect: str = ""
    mask: str | None = None


@dataclass(frozen=True)
class Understood:
    """What a folder holds. known: the layout of the dataset where it is a known one, which says what the pictures are.

    left_out: reason -> the files that are not used.
    """

    root: Path
    known: str | None = None
    pictures: list[Picture] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)


def understand(root: Path) -> Understood:
    """What the pictures below ``root`` are.

    Raises:
        UserError: there is no such folder, it holds no normal pictures, or its names do not say what is what.
    """
    if not root.is_dir():
        kind = "is a file, not a folder of pictures" if root.exists() else "there is no such folder"
        raise UserError(f"{root}: {kind}; name a folder of pictures")
    for layout, marks in KNOWN.items():
        if any(next(root.glob(mark), None) for mark in marks):
            return Understood(root, layout, _listed(root, layout))
    files = sorted({name.removeprefix("./") for name in walk(root, ["."])})
    left_out: dict[str, list[str]] = defaultdict(list)
    names = _pictures(root, files, left_out)
    masks = [name for name in names if "truth" in map(role_of, PurePosixPath(name).parts[:-1])]
    masks += _beside(set(names) - set(masks))
    found = _read([name for name in names if name not in set(masks)], root)
    found = _with_masks(root, found, masks, left_out)
    found = _validated(found, left_out)
    if not any(picture.label == 0 for picture in found):
        raise UserError(_no_normal(root, found))
    return Understood(root, None, _named(found), dict(left_out))


def _listed(root: Path, layout: str) -> list[Picture]:
    """The pictures of a known dataset as its layout reads them."""
    values = {"id": "own", "title": "", "layout": layout, "root": str(root), "licence": "", "source": ""}
    entries = layout_of(layout).read(root, Dataset.model_validate(values))
    found = [Picture(e.image_path, e.category, e.split, e.label, e.defect * e.label, e.mask_path) for e in entries]
    if not any(picture.label == 0 for picture in found):
        raise UserError(_no_normal(root, found))
    return _named(found)


# ---------------------------------------------------------------------------------------------------- files


def _pictures(root: Path, files: Iterable[str], left_out: dict[str, list[str]]) -> list[str]:
    """The pictures among ``files``; the others go to ``left_out`` with a reason."""
    stems = {str(PurePosixPath(name).with_suffix("")) for name in files}
    others: Counter[str] = Counter()
    found = []
    for name in files:
        path = PurePosixPath(name)
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            if not _of_the_system(path):
                others[path.suffix.lower() or "no suffix"] += 1
                left_out["files that are no pictures"].append(name)
        elif _of_the_system(path):
            left_out["hidden or of the operating system"].append(name)
        elif name.endswith(HEATMAP) and name.removesuffix(HEATMAP) in stems:
            left_out["heatmaps of foundad predict"].append(name)
        elif not _listable(name):
            left_out["names that no list can hold (rename them)"].append(name)
        else:
            found.append(name)
    if not found:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(NAMED))
        held = f"holds no pictures but {sum(others.values())} other files ({kinds})" if others else "is empty"
        known = ", ".join(sorted(suffix[1:].upper() for suffix in IMAGE_SUFFIXES))
        raise UserError(f"{root}: {held}; pictures are {known}")
    return _one_per_stem(found, left_out)


def _of_the_system(path: PurePosixPath) -> bool:
    folders = {part.casefold() for part in path.parts}
    return any(part.startswith(".") for part in path.parts) or not folders.isdisjoint(SYSTEM_FILES | SYSTEM_FOLDERS)


def _listable(name: str) -> bool:
    """Whether a list of images can hold ``name``."""
    parts = PurePosixPath(name).parts
    short = (
        len(name) < LONGEST_PATH - 10 and max(len(part.encode("utf-8", "replace")) for part in parts) <= LONGEST_PART
    )
    return is_text(name) and name.isprintable() and "\\" not in name and short


def _one_per_stem(names: list[str], left_out: dict[str, list[str]]) -> list[str]:
    """``names`` without those that differ from another only in the suffix: their ids would be equal."""
    first: dict[str, str] = {}
    for name in names:
        known = first.setdefault(str(PurePosixPath(name).with_suffix("")), name)
        if known != name:
            left_out[f"the same name as another picture but for the suffix (such as {shown(known)})"].append(name)
    return list(first.values())


def _beside(names: set[str]) -> list[str]:
    """Masks that lie beside their pictures, such as 001_mask.png beside 001.jpg."""
    stems = {str(PurePosixPath(name).with_suffix("")) for name in names}
    found = []
    for name in sorted(names):
        path = PurePosixPath(name).with_suffix("")
        own = pictured(path.name)
        if own != path.name and str(path.with_name(own)) in stems:
            found.append(name)
    return found


# ---------------------------------------------------------------------------------------------------- names


@dataclass(frozen=True)
class _Place:
    """Folders of a picture: its own names before the split, between split and label, and after the label."""

    path: str
    split: str
    label: str
    before: tuple[str, ...]
    between: tuple[str, ...]
    after: tuple[str, ...]
    word: str = ""  # the folder that gives the label


def _place(name: str) -> _Place:
    split, label, word = "", "", ""
    parts: dict[str, list[str]] = {"before": [], "between": [], "after": []}
    for part in PurePosixPath(name).parts[:-1]:
        role = role_of(part)
        if role in ("train", "test", "validation") and not split and not label:
            split = role
        elif role in ("normal", "defective", "unlabelled") and not label:
            label, word = role, part
        elif role != "container":
            parts["after" if label else "between" if split else "before"].append(part)
    before, between, after = (tuple(parts[key]) for key in ("before", "between", "after"))
    return _Place(name, split, label, before, between, after, word)


def _read(names: Iterable[str], root: Path) -> list[Picture]:
    """The pictures with what their folders say; label None and an empty split where they say nothing."""
    places = [_place(name) for name in names]
    # A name between split and label is a category if it is one elsewhere, else a kind of defect or a subfolder.
    categories = {place.between[0] for place in places if place.label and place.between}
    trained = {place.between[0] for place in places if place.split == "train" and place.between}
    tested = {place.between[0] for place in places if place.split == "test" and place.between}
    categories |= trained & tested
    normal_in = {PurePosixPath(place.path).parts[: _depth(place)] for place in places if place.label == "normal"}
    found = [_picture(place, categories, normal_in) for place in places]
    said = [picture for picture in found if picture.split or picture.label is not None or picture.defect]
    return found if said else _unsaid(places, root)


def _depth(place: _Place) -> int:
    """How many folders lead to the one that gives the label."""
    return PurePosixPath(place.path).parts.index(place.word)


def _picture(place: _Place, categories: set[str], normal_in: set[tuple[str, ...]]) -> Picture:
    before, between = place.before, place.between
    # A defective picture is never learned from.
    split = "test" if place.label == "defective" and place.split != "validation" else place.split
    if place.label:
        label = {"normal": 0, "defective": 1, "unlabelled": None}[place.label]
        kind = (place.after or (place.word,))[0] if label else ""
        return Picture(place.path, "/".join((*before, *between)), split, label, kind)
    category = before + between[:1] * (bool(between) and between[0] in categories)
    rest = between[len(category) - len(before) :]
    if place.split == "train":
        return Picture(place.path, "/".join(category), "train", 0)
    if place.split:
        return Picture(place.path, "/".join(category), place.split, 1 if rest else None, rest[0] if rest else "")
    folders = PurePosixPath(place.path).parts[:-1]
    for depth, part in enumerate(folders):
        if folders[:depth] in normal_in:  # beside a folder of normal pictures
            category = tuple(name for name in folders[:depth] if not role_of(name))
            if role_of(part):  # such as images: says nothing
                return Picture(place.path, "/".join(category))
            return Picture(place.path, "/".join(category), "test", 1, part)
    category = tuple(name for name in folders if not role_of(name))
    return Picture(place.path, "/".join(category))


def _unsaid(places: list[_Place], root: Path) -> list[Picture]:
    """Pictures of which no folder says anything: the names of the pictures do, or they lie in one folder."""
    roles = {place.path: role_of_stem(PurePosixPath(place.path).stem) for place in places}
    if "normal" in roles.values() and all(roles.values()):
        return [
            Picture(
                path, "/".join(place.before), "", int(role == "defective"), "anomaly" if role == "defective" else ""
            )
            for place, (path, role) in zip(places, roles.items(), strict=True)
        ]
    return [Picture(place.path, "/".join(place.before)) for place in places]


# ---------------------------------------------------------------------------------------------------- masks and labels


def _with_masks(root: Path, pictures: list[Picture], masks: list[str], left_out: dict[str, list[str]]) -> list[Picture]:
    """``pictures`` with their masks, and with labels where masks alone tell which are defective."""
    said = any(picture.split or picture.label is not None or picture.defect for picture in pictures)
    if not masks:
        return pictures if said else _all_normal(root, pictures)
    of = match({picture.path for picture in pictures if picture.label != 0}, masks)
    unused = sorted(set(masks) - {mask for found in of.values() for mask in found.files})
    defective = [picture for picture in pictures if picture.label != 0]
    if not of and any(role_of(part) != "normal" for mask in masks for part in PurePosixPath(mask).parts[:-1][-1:]):
        raise UserError(
            f"{root}: holds {len(masks)} masks (first: {shown(masks[0])}) and none belongs to a picture; a mask is named "
            f"like its picture, with or without _mask, in a folder such as masks or ground_truth, or beside it"
        )
    if unused:
        left_out["masks of no defective picture"] += unused
    if not said:
        return [_labelled(root, picture, of[picture.path].path if picture.path in of else None) for picture in pictures]
    bare = [picture for picture in defective if picture.label == 1 and picture.path not in of]
    if bare:
        kept = sorted(mask for found in of.values() for mask in found.files)
        reason = f"masks, because {len(bare)} defective pictures have none (first: {shown(bare[0].path)})"
        left_out[reason] += kept
        return pictures
    return [replace(picture, mask=of[picture.path].path) if picture.path in of else picture for picture in pictures]


def _labelled(root: Path, picture: Picture, mask: str | None) -> Picture:
    """A picture whose mask alone says whether it is defective: normal without a mask, or with an empty one."""
    if mask is None or not load_mask(root / mask).any():
        return replace(picture, label=0)
    return replace(picture, label=1, split="test", defect="anomaly", mask=mask)


def _all_normal(root: Path, pictures: list[Picture]) -> list[Picture]:
    """All pictures as normal ones, if they lie in one folder; UserError if they lie in several, which may mean anything."""
    folders = Counter(str(PurePosixPath(picture.path).parent) for picture in pictures)
    if len(folders) > 1:
        listed = ", ".join(f"{shown(name)} ({count})" for name, count in folders.most_common(NAMED))
        more = ", ..." if len(folders) > NAMED else ""
        raise UserError(
            f"{root}: holds pictures in {len(folders)} folders ({listed}{more}) and no name says which are normal; call "
            "the folder of normal pictures good, or name one of these folders alone"
        )
    return [replace(picture, label=0, category="") for picture in pictures]


def _validated(pictures: list[Picture], left_out: dict[str, list[str]]) -> list[Picture]:
    """Validation pictures are the test set where there is no other; else they stay out."""
    tested = any(
        role_of(part) == "test" and picture.label is not None
        for picture in pictures
        for part in PurePosixPath(picture.path).parts[:-1]
    )
    if not tested:
        return [replace(picture, split="test") if picture.split == "validation" else picture for picture in pictures]
    for picture in pictures:
        if picture.split == "validation":
            left_out["validation pictures, which stay out of draws and tests"].append(picture.path)
    return [picture for picture in pictures if picture.split != "validation"]


def _no_normal(root: Path, pictures: list[Picture]) -> str:
    """The line for a folder without normal pictures: what it holds instead."""
    kinds = Counter("defective" if picture.label else "unlabelled" for picture in pictures)
    held = " and ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    folders: Mapping[str, int] = Counter(str(PurePosixPath(picture.path).parent) for picture in pictures)
    listed = ", ".join(f"{shown(name)} ({count})" for name, count in list(folders.items())[:NAMED])
    cure = "put normal ones into a folder called good"
    return f"{root}: holds {held} pictures ({listed}) and no normal one to learn from; {cure}"


def _named(pictures: list[Picture]) -> list[Picture]:
    """The pictures with names of categories and defects that a list can hold, sorted by path."""
    folders = {picture.category: PurePosixPath(picture.category) for picture in pictures}
    around = os.path.commonpath(folders)
    names = {category: "-".join(path.relative_to(around).parts)[:LONGEST_NAME] for category, path in folders.items()}
    return [
        replace(
            picture,
            category=names[picture.category],
            defect=picture.defect[:LONGEST_NAME] or ("anomaly" if picture.label else ""),
        )
        for picture in sorted(pictures, key=lambda picture: picture.path)
    ]
