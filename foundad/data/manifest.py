"""The manifest of a dataset, one row per image: its types, its reader and its writer.

It is the first file of the workflow: no later stage looks into a dataset's folders. Nothing is verified here;
:mod:`foundad.data.verify` makes the manifest. The Parquet file holds what can change a number. What people read about a
dataset (notes, files left out) is in the ledger beside it, so a stray file beside the images does not change the
manifest.
"""

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.paths import WHOLE
from foundad.sealed import Seal, broken, read_parquet, write_parquet

if TYPE_CHECKING:
    import pyarrow as pa

    from foundad.data.ledger import Ledger

METADATA = ("dataset", "has_masks", "mask_threshold")


@dataclass(frozen=True, order=True)
class Entry:
    """One image: ids and paths as strings relative to the dataset's root, label 0 normal or 1 anomalous."""

    image_id: str
    category: str
    split: str
    label: int
    defect: str
    image_path: str
    mask_path: str | None


@dataclass(frozen=True)
class Row(Entry):
    """A verified image: what its layout says, and what its file holds.

    mask_sha256: hash of the mask file, or over the names and hashes of the pictures in a mask folder; None without a
    mask.
    """

    sha256: str
    width: int
    height: int
    mode: str
    mask_sha256: str | None = None


@dataclass(frozen=True)
class Manifest:
    """All rows of a dataset, sorted by image id.

    notes and ledger are for people: :func:`read_manifest` leaves them empty, see :func:`read_ledger`. root is the
    folder that paths are relative to on this machine; no file stores it.
    """

    dataset: str
    has_masks: bool
    notes: list[str] = field(compare=False)
    rows: list[Row]
    mask_threshold: int = 0
    ledger: "Ledger | None" = field(default=None, compare=False)
    root: Path = field(default=Path(), compare=False)

    def at(self, root: Path) -> "Manifest":
        """The same rows, whose files lie below ``root``."""
        return replace(self, root=root)

    @cached_property
    def train(self) -> list[Row]:
        """Normal images that draws may take."""
        return [row for row in self.rows if row.split == "train"]

    @cached_property
    def test(self) -> list[Row]:
        """Images that are scored; features and scores have a row for each, in this order."""
        return [row for row in self.rows if row.split == "test"]


def part_of(manifest: Manifest, part: str) -> Manifest:
    """The part that a stage needs: ``train`` images, ``test`` images, test images with masks (``truth``), or the whole.

    The parts ``train`` and ``test`` name no masks, so that a changed mask does not change their files.
    """
    if part == WHOLE:
        return manifest
    rows = manifest.train if part == "train" else manifest.test
    if part == "truth":
        return replace(manifest, rows=rows, notes=[], ledger=None)
    rows = [replace(row, mask_path=None, mask_sha256=None) for row in rows]
    return replace(manifest, rows=rows, notes=[], ledger=None, has_masks=False, mask_threshold=0)


def write_manifest(manifest: Manifest, path: Path, key: str = "") -> None:
    """Write ``manifest`` as Parquet; the same manifest gives the same bytes. Its ledger is another file."""
    import pyarrow as pa

    facts = {name: value for name, value in vars(manifest).items() if name in METADATA}
    table = pa.Table.from_pylist([vars(row) for row in manifest.rows], schema=_schema())
    write_parquet(path, Seal("manifest", key, facts), table)


def read_manifest(path: Path, key: str | None = None) -> Manifest:
    """Read what :func:`write_manifest` wrote, without notes and ledger; it must have the key ``key`` (None: any).

    Raises:
        BrokenFile: the file is damaged, of another key, or not a manifest.
    """
    table, seal = read_parquet(path, "manifest", key)
    try:
        rows = [Row(**values) for values in table.to_pylist()]
        return Manifest(rows=rows, notes=[], **{name: seal[name] for name in METADATA})
    except (TypeError, KeyError) as error:
        raise broken(path, f"is not a manifest ({error})") from None


def _schema() -> "pa.Schema":
    import pyarrow as pa

    special = {"label": pa.int8(), "width": pa.int32(), "height": pa.int32()}
    return pa.schema([(field.name, special.get(field.name, pa.string())) for field in fields(Row)])
