"""Stage ``manifest``: lists every image of a dataset and verifies it.

Each file is read once; its bytes give hash and decoded picture. All problems are reported at once, one line each.
"""

import hashlib
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from foundad.config.dataset import Dataset
from foundad.data import images
from foundad.data.checked import Checked
from foundad.data.counts import unusual_counts
from foundad.data.entry import Entry, place
from foundad.data.layouts import layout_of
from foundad.data.ledger import Ledger
from foundad.data.location import image_root
from foundad.data.manifest import Manifest, Row
from foundad.data.seen import Seen, read_mask, remarks, seen_in_picture, without_normal
from foundad.data.stock import is_text, shown, take_stock
from foundad.errors import MachineError, UserError

SHOWN_PROBLEMS = 50


def build_manifest(
    dataset: Dataset, threads: int = 1, checked: Path | None = None, deep: bool = False, most: int = SHOWN_PROBLEMS
) -> Manifest:
    """List and verify every image and mask of ``dataset``; the manifest's ledger says what became of all other files.

    Args:
        checked: file with the findings of earlier calls; unchanged files are not read again, unless ``deep``.
        most: problems that are named one by one.

    Raises:
        UserError: one line for each problem of each file. With ``strict: false`` broken files are left out instead and
            counted in the notes, but a category without normal or test images is still an error.
    """
    root = image_root(dataset)
    layout = layout_of(dataset.layout)
    listed = sorted(layout.read(root, dataset), key=place)
    entries = [entry for entry in listed if not _unnamable(entry)]
    problems = [
        f"{shown(str(root / entry.image_path))}: its path or its mask's path is not in UTF-8; rename it"
        for entry in listed
        if _unnamable(entry)
    ]
    rows, seen, broken = verified(dataset, root, entries, threads, checked, deep)
    problems += broken
    leaks, shared = across_categories(root, rows)
    problems += _same_ids(root, rows) + _duplicates(root, rows) + leaks
    kept = _without_duplicates(rows)
    stock = take_stock(dataset, root, listed, kept)
    empty = _empty_categories(dataset, entries, rows, root, stock.instead)
    left = problems + stock.problems
    if empty or (left and dataset.strict):
        _report(dataset, empty + left, most)
    notes = layout.notes(root)
    if problems:
        notes.append(f"{len(problems)} broken or duplicate files left out (strict: false)")
    notes += [f"{problem} (strict: false)" for problem in stock.problems]
    notes += [*shared, *unusual_counts(dataset, kept)]
    found = remarks(kept, seen) + without_normal(kept)
    ledger = Ledger(stock.found, stock.used, stock.left_out, notes, found)
    masked = any(entry.mask_path for entry in entries)
    return Manifest(dataset.id, masked, notes, kept, dataset.mask_threshold, ledger)


def _unnamable(entry: Entry) -> bool:
    return not is_text(entry.image_id + entry.image_path + (entry.mask_path or ""))


def verified(
    dataset: Dataset,
    root: Path,
    entries: Sequence[Entry],
    threads: int = 1,
    checked: Path | None = None,
    deep: bool = False,
) -> tuple[list[Row], dict[str, Seen], list[str]]:
    """Rows of the intact images, facts seen in all images (by image id), and a line for each broken one.

    ``checked`` and ``deep`` are as for :func:`build_manifest`.
    """
    from tqdm import tqdm

    masked = any(entry.mask_path for entry in entries)
    memory = Checked(checked, root, f"2 {masked} {dataset.mask_threshold} {dataset.max_pixels}")
    known = {entry: None if deep else memory.facts(entry) for entry in entries}
    unread = [entry for entry, facts in known.items() if facts is None]
    verified: dict[Entry, tuple[Row, Seen, str | None]] = {
        entry: (Row(**vars(entry), **facts[0]), facts[1], None) for entry, facts in known.items() if facts is not None
    }

    def work(entry: Entry) -> tuple[list[object], tuple[Row, Seen, str | None]]:
        return memory.stamp(entry), verify(root, entry, masked, dataset)

    with ThreadPoolExecutor(max_workers=threads) as pool:
        progress = tqdm(pool.map(work, unread), f"{dataset.id}: images", len(unread), disable=None, file=sys.stderr)
        for entry, (stamp, (row, seen, problem)) in zip(unread, progress, strict=True):
            verified[entry] = row, seen, problem
            if not problem:
                memory.keep(entry, stamp, vars(row), seen)
    memory.save()
    found = [verified[entry] for entry in entries]
    rows = [row for row, _, problem in found if not problem]
    return rows, {row.image_id: seen for row, seen, _ in found}, [problem for *_, problem in found if problem]


def verify(root: Path, entry: Entry, masked: bool, dataset: Dataset) -> tuple[Row, Seen, str | None]:
    """The row of ``entry``, facts seen in its files, and what is wrong with them (None: nothing)."""
    path = root / entry.image_path
    row, seen = Row(**vars(entry), sha256="", width=0, height=0, mode=""), Seen()
    try:
        data = images.read_bytes(path)
        image = images.decode(data, path, dataset.max_pixels)
        images.reject_unscaled(image, path)
        seen |= seen_in_picture(image)
        digest = hashlib.sha256(data).hexdigest()
        row = Row(**vars(entry), sha256=digest, width=image.width, height=image.height, mode=image.mode)
        if entry.mask_path is None:
            if masked and entry.label:
                reason = f"shows the defect '{entry.defect}' and has no mask; add one, or remove the image"
                return row, seen, f"{path}: {reason}"
            return row, seen, None
        mask_path = root / entry.mask_path
        mask, mask_digest, found = read_mask(mask_path, dataset.mask_threshold, dataset.max_pixels)
        row = replace(row, mask_sha256=mask_digest)
        if mask.shape != (image.height, image.width):
            sizes = f"is {mask.shape[1]}x{mask.shape[0]}, its image {path.name} is {image.width}x{image.height}"
            return row, seen, f"{mask_path}: {sizes}; replace it"
        if not mask.any():
            reason = f"is empty, its image shows the defect '{entry.defect}'; replace or remove both"
            return row, seen, f"{mask_path}: {reason}"
        return row, seen | found, None
    except UserError as error:
        if isinstance(error, MachineError):
            raise
        return row, seen, str(error)


def _duplicates(root: Path, rows: Iterable[Row]) -> list[str]:
    first: dict[tuple[str, str], Row] = {}
    problems = []
    for row in rows:
        other = first.setdefault((row.category, row.sha256), row)
        if other is not row:
            where = "in train and test (leakage)" if other.split != row.split else f"twice in {row.split}"
            problems.append(f"{root / row.image_path}: the same picture as {other.image_path}, {where}; remove one")
    return problems


def across_categories(root: Path, rows: Iterable[Row]) -> tuple[list[str], list[str]]:
    """Pictures that several categories share: a line for each in train of one and test of another, and notes on the rest.

    A model of all categories (key ``scope: pooled``) would learn from pictures that it is tested on.
    """
    first: dict[str, dict[str, Row]] = {}
    leaks, shared = [], 0
    for row in sorted(rows, key=lambda row: (row.split, row.image_id)):
        splits = first.setdefault(row.sha256, {})
        other = splits.setdefault(row.split, row)
        test = splits.get("test", row)
        if row.split == "train" and test.category != row.category and test is not row:
            leaks.append(
                f"{root / row.image_path}: the same picture as {test.image_path}, in train and test (leakage) of two "
                "categories: a model of all categories would learn from it; remove one"
            )
        elif other.category != row.category:
            shared += 1
    return leaks, [f"{shared} pictures are in several categories of one split"] if shared else []


def _same_ids(root: Path, rows: Iterable[Row]) -> list[str]:
    """A line for each image with the id of another: listed twice, or different only in the extension of its file."""
    first: dict[str, str] = {}
    problems = []
    for row in rows:
        if row.image_id in first:
            known = first[row.image_id]
            problems.append(
                f"{root / row.image_path}: has the same id as {known} ({row.image_id}); rename or remove one"
            )
        first.setdefault(row.image_id, row.image_path)
    return problems


def _without_duplicates(rows: list[Row]) -> list[Row]:
    """``rows`` without repeated contents or ids in a category, and without train pictures that are tested anywhere."""
    tested = {row.sha256 for row in rows if row.split == "test"}
    kept: dict[object, Row] = {}
    for row in rows:
        content = (row.category, row.sha256)
        if content in kept or row.image_id in kept or (row.split == "train" and row.sha256 in tested):
            continue
        kept[content] = kept[row.image_id] = row
    return list(dict.fromkeys(kept.values()))


def _empty_categories(
    dataset: Dataset, entries: list[Entry], rows: list[Row], root: Path, instead: dict[str, str]
) -> list[str]:
    categories = list(dataset.folders or dict.fromkeys(entry.category for entry in entries))
    folders = dataset.folders or {}
    if not categories:
        return [f"{root}: holds no category in the layout '{dataset.layout}'; check root and layout"]
    problems = []
    for category in categories:
        where = root / folders.get(category, category)
        kinds = {(row.split, row.label) for row in rows if row.category == category}
        found = f"; found instead: {instead[category]}" if category in instead else ""
        if ("train", 0) not in kinds:
            looked_in = layout_of(dataset.layout).looked_in
            looked = f"; looked in {looked_in}" if looked_in else ""
            problems.append(f"{where}: category '{category}' has no readable normal images to draw from{looked}{found}")
        if not any(split == "test" for split, _ in kinds):
            problems.append(f"{where}: category '{category}' has no readable test images{found}")
    return problems


def _report(dataset: Dataset, problems: list[str], most: int) -> None:
    cut = f"dataset {dataset.id}: and {len(problems) - most} more; foundad data check {dataset.id} lists them all"
    more = [cut] if len(problems) > most else []
    if len(problems) == 1:
        raise UserError(f"dataset {dataset.id}: {problems[0]}")
    lines = [f"dataset {dataset.id}: {len(problems)} problems", *problems[:most], *more]
    raise UserError("\n".join(lines))
