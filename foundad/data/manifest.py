"""The manifest: every image of a dataset, one row each; its types, its reader and its writer.

The first file on the way of the data: nothing later looks into a dataset's folders. It verifies nothing; the stage that makes
it is :mod:`foundad.data.verify`.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.config import Dataset
from foundad.data.layouts.entry import Entry
from foundad.paths import WHOLE
from foundad.sealed import Seal, broken, read_parquet, write_parquet

if TYPE_CHECKING:
    import pyarrow as pa

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


def part_of(manifest: Manifest, part: str) -> Manifest:
    """What the stages read that need no more: ``train`` images, ``test`` images, or these with their ``truth``.

    Of test images alone no mask is named, so that a mask that changes leaves their file as it is.
    """
    if part == WHOLE:
        return manifest
    rows = manifest.train if part == "train" else manifest.test
    if part == "truth":
        return replace(manifest, rows=rows, notes=[])
    rows = [replace(row, mask_path=None) for row in rows]
    return replace(manifest, rows=rows, notes=[], has_masks=False, mask_threshold=0)


def write_manifest(manifest: Manifest, path: Path, key: str = "") -> None:
    """Write ``manifest`` as Parquet; the same manifest gives the same bytes."""
    import pyarrow as pa

    facts = {name: value for name, value in vars(manifest).items() if name in METADATA}
    table = pa.Table.from_pylist([vars(row) for row in manifest.rows], schema=_schema())
    write_parquet(path, Seal("manifest", key, facts), table)


def read_manifest(path: Path, key: str | None = None) -> Manifest:
    """What :func:`write_manifest` wrote, under ``key`` (None: any).

    Raises:
        BrokenFile: it is damaged, of another key, or no manifest.
    """
    table, seal = read_parquet(path, "manifest", key)
    try:
        return Manifest(rows=[Row(**values) for values in table.to_pylist()], **{name: seal[name] for name in METADATA})
    except (TypeError, KeyError) as error:
        raise broken(path, f"is no manifest ({error})") from None


def manifest_notes(path: Path) -> list[str]:
    """The notes of the manifest at ``path`` alone; none where its dataset failed."""
    from foundad.failures import failure_of

    return [] if failure_of(path) is not None else read_manifest(path).notes


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


def _schema() -> "pa.Schema":
    import pyarrow as pa

    special = {"label": pa.int8(), "width": pa.int32(), "height": pa.int32()}
    return pa.schema([(field.name, special.get(field.name, pa.string())) for field in fields(Row)])
