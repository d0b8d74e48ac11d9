"""The manifest: every image of a dataset, one row each; its types, its reader and its writer.

The first file on the way of the data: nothing later looks into a dataset's folders. It verifies nothing; the stage that makes
it is :mod:`foundad.data.verify`. The Parquet file holds what can change a number; what people read of a dataset (notes, files
left out) lies in its twin, the ledger, so that a stray file beside the images changes no byte of the manifest.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry
from foundad.data.ledger import Ledger
from foundad.paths import WHOLE
from foundad.sealed import Seal, broken, read_json, read_parquet, write_json, write_parquet

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = ("dataset", "has_masks", "mask_threshold")


@dataclass(frozen=True)
class Row(Entry):
    """A verified image: what its layout says, and what its file holds.

    mask_sha256: of the mask's file; of a folder of masks over the names and hashes of its pictures; None without a mask.
    """

    sha256: str
    width: int
    height: int
    mode: str
    mask_sha256: str | None = None


@dataclass(frozen=True)
class Manifest:
    """All rows of a dataset, sorted by image id.

    notes and ledger are for readers alone: :func:`read_manifest` leaves them empty, see :func:`read_ledger`. root is the
    folder that paths are relative to: where the dataset lies on this machine, and in no file.
    """

    dataset: str
    has_masks: bool
    notes: list[str] = field(compare=False)
    rows: list[Row]
    mask_threshold: int = 0
    ledger: Ledger = field(default_factory=Ledger, compare=False)
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
    """What the stages read that need no more: ``train`` images, ``test`` images, or these with their ``truth``.

    Of test images alone no mask is named, so that a mask that changes leaves their file as it is.
    """
    if part == WHOLE:
        return manifest
    rows = manifest.train if part == "train" else manifest.test
    if part == "truth":
        return replace(manifest, rows=rows, notes=[], ledger=Ledger())
    rows = [replace(row, mask_path=None, mask_sha256=None) for row in rows]
    return replace(manifest, rows=rows, notes=[], ledger=Ledger(), has_masks=False, mask_threshold=0)


def write_manifest(manifest: Manifest, path: Path, key: str = "") -> None:
    """Write ``manifest`` as Parquet, and its ledger beside it if it has one; the same manifest gives the same bytes."""
    import pyarrow as pa

    facts = {name: value for name, value in vars(manifest).items() if name in METADATA}
    table = pa.Table.from_pylist([vars(row) for row in manifest.rows], schema=_schema())
    write_parquet(path, Seal("manifest", key, facts), table)
    if manifest.ledger.found:
        ledger = replace(manifest.ledger, notes=manifest.notes)
        write_json(ledger_of(path), Seal("ledger", key, ledger.as_facts()))


def read_manifest(path: Path, key: str | None = None) -> Manifest:
    """What :func:`write_manifest` wrote, under ``key`` (None: any), without notes and ledger.

    Raises:
        BrokenFile: it is damaged, of another key, or no manifest.
    """
    table, seal = read_parquet(path, "manifest", key)
    try:
        rows = [Row(**values) for values in table.to_pylist()]
        return Manifest(rows=rows, notes=[], **{name: seal[name] for name in METADATA})
    except (TypeError, KeyError) as error:
        raise broken(path, f"is no manifest ({error})") from None


def ledger_of(path: Path) -> Path:
    """The ledger beside the manifest at ``path``."""
    return path.with_name(f"{path.stem}.ledger.json")


def read_ledger(path: Path) -> Ledger:
    """The ledger beside the manifest at ``path``.

    Raises:
        BrokenFile: it is missing or damaged.
    """
    twin = ledger_of(path)
    try:
        return Ledger.of_facts(read_json(twin, "ledger").facts)
    except (OSError, KeyError, TypeError) as error:
        raise broken(twin, f"is no ledger of a dataset ({error})") from None


def manifest_notes(path: Path) -> list[str]:
    """The notes beside the manifest at ``path``; where its dataset failed the first line of the reason.

    Raises:
        BrokenFile: the ledger is missing or damaged.
    """
    from foundad.failures import failure_of

    reason = failure_of(path)
    return read_ledger(path).notes if reason is None else [f"not as it should be: {reason.splitlines()[0]}"]


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
