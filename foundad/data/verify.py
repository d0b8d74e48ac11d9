"""Stage ``manifest``: lists every image of a dataset and verifies it.

Each file is read once; its bytes give the hash and the decoded picture. All problems are reported at once, a line each.
"""

import hashlib
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from foundad.config import Dataset
from foundad.data.checked import Checked
from foundad.data.layouts import READERS, elpv
from foundad.data.layouts.entry import Entry
from foundad.data.location import image_root
from foundad.data.manifest import Manifest, Row, unusual_counts
from foundad.errors import UserError

SHOWN_PROBLEMS = 50


def build_manifest(dataset: Dataset, threads: int = 1, checked: Path | None = None, deep: bool = False) -> Manifest:
    """List and verify every image and mask of ``dataset``.

    Args:
        checked: file of what earlier calls found out; unchanged files are not read again, unless ``deep``.

    Raises:
        UserError: one line for each problem of each file. With ``strict: false`` broken files are left out instead and
            counted in the notes; a category without normal or test images is an error all the same.
    """
    root = image_root(dataset)
    entries = sorted(READERS[dataset.layout](root, dataset))
    masked = any(entry.mask_path for entry in entries)
    problems: list[str] = []
    rows: list[Row] = []
    from tqdm import tqdm

    memory = Checked(checked, root, f"{masked} {dataset.mask_threshold}")
    known = {entry: None if deep else memory.facts(entry) for entry in entries}
    unread = [entry for entry, facts in known.items() if facts is None]
    verified: dict[Entry, tuple[Row, str | None]] = {
        entry: (Row(**vars(entry), **facts), None) for entry, facts in known.items() if facts is not None
    }
    with ThreadPoolExecutor(max_workers=threads) as pool:
        checks = pool.map(lambda entry: _verify(root, entry, masked, dataset.mask_threshold), unread)
        progress = tqdm(checks, f"{dataset.id}: images", len(unread), disable=None, file=sys.stderr)
        for entry, (row, problem) in zip(unread, progress, strict=True):
            verified[entry] = row, problem
            if not problem:
                memory.keep(entry, vars(row))
    memory.save()
    for entry in entries:
        row, problem = verified[entry]
        if problem:
            problems.append(problem)
        else:
            rows.append(row)
    problems += _same_ids(root, rows)
    problems += _duplicates(root, rows)
    notes = elpv.notes(root) if dataset.layout == "elpv" else []
    empty = _empty_categories(dataset, entries, rows, root)
    if empty or (problems and dataset.strict):
        _report(dataset, empty + (problems if dataset.strict or empty else []))
    if problems:
        rows = _without_duplicates(rows)
        notes = [*notes, f"{len(problems)} broken or doubled files left out (strict: false)"]
    notes = [*notes, *unusual_counts(dataset, rows)]
    return Manifest(dataset.id, masked, notes, rows, dataset.mask_threshold)


def _has_folders(dataset: Dataset) -> bool:
    return dataset.folders is not None and dataset.layout != "elpv"


def _verify(root: Path, entry: Entry, masked: bool, mask_threshold: int) -> tuple[Row, str | None]:
    """The row of ``entry``, and what is wrong with its files if anything is."""
    from foundad.data.images import decode, load_mask, read_bytes

    path = root / entry.image_path
    row = Row(**vars(entry), sha256="", width=0, height=0, mode="")
    try:
        data = read_bytes(path)
        image = decode(data, path)
        row = Row(
            **vars(entry),
            sha256=hashlib.sha256(data).hexdigest(),
            width=image.width,
            height=image.height,
            mode=image.mode,
        )
        if entry.mask_path is not None:
            mask_path = root / entry.mask_path
            mask = load_mask(mask_path, mask_threshold)
            if mask.shape != (image.height, image.width):
                shown = f"{mask.shape[1]}x{mask.shape[0]}"
                return (
                    row,
                    f"{mask_path}: is {shown}, its image {path.name} is {image.width}x{image.height}; replace it",
                )
            if not mask.any():
                return (
                    row,
                    f"{mask_path}: is empty, its image shows the defect '{entry.defect}'; replace or remove both",
                )
        elif masked and entry.label:
            return (
                row,
                f"{path}: shows the defect '{entry.defect}' and has no mask; add one, or remove the image",
            )
    except UserError as error:
        return row, str(error)
    return row, None


def _duplicates(root: Path, rows: Iterable[Row]) -> list[str]:
    first: dict[tuple[str, str], Row] = {}
    problems = []
    for row in rows:
        other = first.setdefault((row.category, row.sha256), row)
        if other is not row:
            where = "in train and test (leakage)" if other.split != row.split else f"twice in {row.split}"
            problems.append(f"{root / row.image_path}: the same picture as {other.image_path}, {where}; remove one")
    return problems


def _same_ids(root: Path, rows: Iterable[Row]) -> list[str]:
    """Images that a list names twice, or that only their extension tells apart: draws and features could not."""
    first: dict[str, str] = {}
    problems = []
    for row in rows:
        if row.image_id in first:
            known = first[row.image_id]
            problems.append(
                f"{root / row.image_path}: has the name of {known} (id {row.image_id}); rename or remove one"
            )
        first.setdefault(row.image_id, row.image_path)
    return problems


def _without_duplicates(rows: list[Row]) -> list[Row]:
    """Of the rows with one content or one id the first."""
    kept: dict[object, Row] = {}
    for row in rows:
        content = (row.category, row.sha256)
        if content not in kept and row.image_id not in kept:
            kept[content] = kept[row.image_id] = row
    return list(dict.fromkeys(kept.values()))


def _empty_categories(dataset: Dataset, entries: list[Entry], rows: list[Row], root: Path) -> list[str]:
    categories = list(dataset.folders or dict.fromkeys(entry.category for entry in entries))
    folders = dataset.folders or {}
    if not categories:
        return [f"{root}: holds no category in the layout '{dataset.layout}'; check root and layout"]
    problems = []
    for category in categories:
        where = root / folders.get(category, category) if _has_folders(dataset) else root / category
        kinds = {(row.split, row.label) for row in rows if row.category == category}
        if ("train", 0) not in kinds:
            problems.append(f"{where}: category '{category}' has no readable normal images to draw from")
        if not any(split == "test" for split, _ in kinds):
            problems.append(f"{where}: category '{category}' has no readable test images")
    return problems


def _report(dataset: Dataset, problems: list[str]) -> None:
    more = [f"and {len(problems) - SHOWN_PROBLEMS} more"] if len(problems) > SHOWN_PROBLEMS else []
    if len(problems) == 1:
        raise UserError(f"dataset {dataset.id}: {problems[0]}")
    lines = [f"dataset {dataset.id}: {len(problems)} problems", *problems[:SHOWN_PROBLEMS], *more]
    raise UserError("\n".join(lines))
