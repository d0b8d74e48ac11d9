"""Folders and masks that a layout with fixed names nearly finds: another case or spelling, one level too deep.

Nothing is guessed. Whatever looks like data and would not be read is one line that says which folder was looked for and
what was found in its place.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from foundad.data.layouts.entry import children, folders_in, images_in

NORMAL_FOLDERS = ("good", "ok")
_NORMAL_WORDS = set(
    "good goods ok okay normal normals nominal regular negative nodefect nodefects nondefective defectfree faultfree "
    "faultless flawless healthy pass passed intact undamaged perfect io".split()
)
_MASK_WORDS = set("groundtruth groundtruths gt mask masks label labels annotation annotations segmentation".split())


def plain(name: str) -> str:
    """``name`` without case and punctuation."""
    return "".join(sign for sign in name.lower() if sign.isalnum())


def misfits(folder: Path, train: str, test: str, ground_truth: str, flat_train: bool = False) -> Iterator[str]:
    """Lines on what lies in a category's ``folder`` and would be dropped.

    Args:
        train, test, ground_truth: the folders that the layout reads, relative to ``folder``.
        flat_train: normal images may lie right in ``train``.
    """
    for wanted in (train, test, ground_truth):
        yield from _misspelt(folder / wanted, wanted == ground_truth)
    yield from _train(folder / train, flat_train)
    yield from _test(folder / test, folder / ground_truth)
    yield from _masks(folder / test, folder / ground_truth)


def _misspelt(wanted: Path, is_masks: bool) -> Iterator[str]:
    there = os.path.isdir(wanted)
    for found in folders_in(wanted.parent):
        if found.name == wanted.name or not _holds_images(found):
            continue
        same = plain(found.name) == plain(wanted.name)
        if same or (is_masks and not there and plain(found.name) in _MASK_WORDS):
            yield f"{found}: looks like {wanted.name}/, which is the folder that is read; rename or remove it"


def _train(train: Path, flat: bool) -> Iterator[str]:
    names = [train.name + "/" + name for name in NORMAL_FOLDERS]
    looked = " or ".join(names)
    for found in folders_in(train):
        if found.name in NORMAL_FOLDERS:
            yield from _nested(found, "images")
        elif plain(found.name) in _NORMAL_WORDS and _holds_images(found):
            yield f"{found}: looks like normal images, and normal images are looked for in {looked}; rename it"
    if not flat and not any(images_in(train / name) for name in NORMAL_FOLDERS) and (loose := images_in(train)):
        yield f"{train}: {len(loose)} pictures lie right in it, and normal images are looked for in {looked}; move them"


def _test(test: Path, ground_truth: Path) -> Iterator[str]:
    for found in folders_in(test):
        if found == ground_truth:
            continue
        yield from _nested(found, "images")
        if found.name in NORMAL_FOLDERS or plain(found.name) not in _NORMAL_WORDS or not _holds_images(found):
            continue
        normal = any(images_in(test / name) for name in NORMAL_FOLDERS)
        missing = "" if normal else "there is no normal test image, and "
        yield (
            f"{found}: {missing}'{found.name}' looks like normal images, not like a defect; normal images are looked for "
            f"in {test.name}/good or {test.name}/ok: rename it"
        )


def _nested(folder: Path, what: str) -> Iterator[str]:
    for found in folders_in(folder):
        if _holds_images(found):
            yield f"{found}: lies one level too deep, {what} are looked for right in {folder.name}/; move them up"


def _masks(test: Path, ground_truth: Path) -> Iterator[str]:
    names = [path.name for path in folders_in(test) if path != ground_truth]
    orphaned: list[Path] = []
    matched = 0
    for folder in folders_in(ground_truth):
        if folder.name in NORMAL_FOLDERS or not _holds_images(folder):
            continue
        if folder.name not in names:
            near = [name for name in names if plain(name) == plain(folder.name)]
            if near:
                yield f"{folder}: looks like the masks of {test.name}/{near[0]}; give both the same name"
                matched += 1
                continue
        stems = {path.stem for path in images_in(test / folder.name)}
        masks = [*images_in(folder), *folders_in(folder)]
        found = sum(mask_stem(mask) in stems for mask in masks)
        matched += found
        orphaned += masks if not found else []
    loose = images_in(ground_truth)
    if not matched and (orphaned or loose):
        first = (orphaned + loose)[0]
        yield (
            f"{ground_truth}: masks are there and none belongs to an image; the mask of {test.name}/<defect>/000.png is "
            f"{ground_truth.name}/<defect>/000_mask.png or 000.png, found was {first.relative_to(ground_truth)}"
        )


def mask_stem(path: Path) -> str:
    """The stem of the image that a mask, or a folder of masks, belongs to."""
    name = path.name if os.path.isdir(path) else path.stem
    return name.removesuffix("_mask")


def _holds_images(folder: Path, levels: int = 3) -> bool:
    """Whether images lie in ``folder`` or not far below; links in circles end at the last level."""
    if images_in(folder):
        return True
    return levels > 1 and any(_holds_images(path, levels - 1) for path in children(folder) if os.path.isdir(path))
