"""Stage ``manifest``: every image of a dataset, listed and verified, one row each.

The first stage on the way of the data: nothing later looks into a dataset's folders. Each file is read once; its bytes
give the hash and the decoded picture. All problems are reported at once, a line each.
"""

import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.config import Dataset
from foundad.data.checked import Checked
from foundad.data.layouts import READERS, elpv
from foundad.data.layouts.entry import Entry
from foundad.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN_PROBLEMS = 50
METADATA = ("dataset", "has_masks", "notes", "mask_threshold")


@dataclass(frozen=True)
class Row(Entry):
    """A verified image: what its layout says, and what its file holds."""

    sha256: str
    width: int
    height: int
    mode: str


@dataclass(frozen=True)
class Manifest:
    """All rows of a dataset, sorted by image id."""

    dataset: str
    has_masks: bool
    notes: list[str]
    rows: list[Row]
    mask_threshold: int = 0

    @cached_property
    def train(self) -> list[Row]:
        """Normal images that draws may take."""
        return [row for row in self.rows if row.split == "train"]

    @cached_property
    def test(self) -> list[Row]:
        """Images that are scored; features and scores have a row for each, in this order."""
        return [row for row in self.rows if row.split == "test"]


def image_root(dataset: Dataset) -> Path:
    """The folder that a manifest's paths are relative to.

    Raises:
        UserError: it is not there.
    """
    if dataset.layout == "elpv" and dataset.root is None:
        return elpv.package_root()
    root = dataset.expanded_root
    assert root is not None
    if not root.is_dir():
        if dataset.generator:
            raise UserError(f"{root}: is not made yet; make it with: foundad {dataset.generator}")
        unset = " (a variable in it is not set)" if "$" in str(root) else ""
        raise UserError(
            f"config/datasets/{dataset.id}.yaml: key 'root': there is no folder {root}{unset}; "
            f"set it, or get the images: foundad data get {dataset.id}"
        )
    return root


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


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write ``manifest`` as Parquet; the same manifest gives the same bytes."""
    import pyarrow as pa

    from foundad.files import write_parquet

    metadata = {key: value for key, value in vars(manifest).items() if key in METADATA}
    schema = _schema().with_metadata({"foundad": json.dumps(metadata)})
    write_parquet(pa.Table.from_pylist([vars(row) for row in manifest.rows], schema=schema), path)


def read_manifest(path: Path) -> Manifest:
    """What :func:`write_manifest` wrote."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    metadata = json.loads(table.schema.metadata[b"foundad"])
    rows = [Row(**values) for values in table.to_pylist()]
    return Manifest(rows=rows, **metadata)


def manifest_notes(path: Path) -> list[str]:
    """The notes of the manifest at ``path`` alone; none where its dataset failed."""
    import pyarrow.parquet as pq

    from foundad.failures import failure_of

    if failure_of(path) is not None:
        return []
    return list(json.loads(pq.read_schema(path).metadata[b"foundad"])["notes"])


def fingerprint(dataset: Dataset) -> str:
    """Hash of names and sizes of all files of ``dataset``; ``absent`` if its folder is not there. Reads no pixel."""
    try:
        root = image_root(dataset)
    except UserError:
        return "absent"
    named = dataset.folders if dataset.layout != "elpv" else None
    folders = [root / folder for folder in named.values()] if named else [root]
    digest = hashlib.sha256()
    for folder in folders:
        for name, size in sorted(_files(folder, "")):
            digest.update(f"{folder.name}/{name}\0{size}\n".encode())
    return digest.hexdigest()[:16]


def count_normal(dataset: Dataset) -> dict[str, int]:
    """Normal training images of every category, by name alone: no file is opened."""
    root = image_root(dataset)
    counts: dict[str, int] = defaultdict(int)
    for entry in READERS[dataset.layout](root, dataset):
        counts[entry.category] += entry.split == "train"
    return counts


def counts_of(rows: Iterable[Row]) -> dict[str, tuple[int, int, int]]:
    """Images for draws, normal and defective test images of every category."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        found[row.category][0 if row.split == "train" else 1 + row.label] += 1
    return {category: (train, normal, defective) for category, (train, normal, defective) in sorted(found.items())}


def unusual_counts(dataset: Dataset, rows: Iterable[Row]) -> list[str]:
    """Categories whose numbers of images are not the published ones, in words; nothing where none are known."""
    problems = []
    for category, found in counts_of(rows).items():
        published = dataset.counts.get(category)
        if published is not None and not as_published(found, published):
            there = found if len(published) == 3 else (found[0] + found[1], found[2])
            kinds = "draws/normal/defective" if len(published) == 3 else "normal/defective"
            numbers = "/".join(map(str, there))
            problems.append(f"{category} has {numbers} images ({kinds}), published are {'/'.join(map(str, published))}")
    return problems


def as_published(found: tuple[int, int, int], published: tuple[int, ...]) -> bool:
    """Whether the numbers of a category are those: three, or two of a set that is published without a split."""
    return found == published or (found[0] + found[1], found[2]) == published


def _has_folders(dataset: Dataset) -> bool:
    return dataset.folders is not None and dataset.layout != "elpv"


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as found:
            for item in found:
                if item.is_dir():
                    yield from _files(Path(item.path), f"{prefix}{item.name}/")
                else:
                    yield prefix + item.name, item.stat().st_size
    except OSError:
        yield prefix + "(unreadable)", 0


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


def _schema() -> "pa.Schema":
    import pyarrow as pa

    special = {"label": pa.int8(), "width": pa.int32(), "height": pa.int32()}
    return pa.schema([(field.name, special.get(field.name, pa.string())) for field in fields(Row)])
