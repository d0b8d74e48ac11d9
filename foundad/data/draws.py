"""Stage ``draw``: which few normal images a model learns from.

The images of a category are sorted by id and permuted by a generator seeded with dataset, category and seed. A draw
does not depend on other categories or on the file system, and a smaller draw is part of a larger one with the same
seed.
"""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from foundad.data.manifest import Manifest, Row
from foundad.errors import UserError
from foundad.names import delimiter
from foundad.sealed import Seal, broken, read_parquet, write_parquet


@dataclass(frozen=True)
class Draw:
    """The drawn images, category by category; each list has one value per image."""

    dataset: str
    shots: int
    seed: int
    categories: list[str]
    image_ids: list[str]
    image_paths: list[str]
    sha256: list[str]

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits over categories and file contents: equal draws have equal hashes."""
        lines = "\n".join(f"{name} {digest}" for name, digest in zip(self.categories, self.sha256, strict=True))
        return hashlib.sha256(lines.encode()).hexdigest()[:16]


def draw(manifest: Manifest, shots: int, seed: int) -> Draw:
    """Draw ``shots`` normal images of every category of ``manifest``.

    Raises:
        UserError: a category has fewer images.
    """
    pools: dict[str, list[Row]] = {}
    for row in manifest.train:
        pools.setdefault(row.category, []).append(row)
    drawn: list[Row] = []
    for category, pool in sorted(pools.items()):
        if shots > len(pool):
            raise UserError(
                f"dataset {manifest.dataset}: {shots} shots are more than the {len(pool)} normal images of category "
                f"'{category}'; choose fewer in the experiment's key shots"
            )
        digest = hashlib.sha256(f"{manifest.dataset}/{category}/{seed}".encode()).digest()
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest)))
        pool = sorted(pool, key=lambda row: row.image_id)
        drawn += [pool[number] for number in generator.permutation(len(pool))[:shots]]
    return _as_draw(manifest, shots, seed, drawn)


def listed_draw(manifest: Manifest, path: Path, shots: int, seed: int) -> Draw:
    """The draw that the user's own CSV lists: columns category and image, optionally shots and seed.

    ``image`` is the path in the manifest or the end of it, such as the file's name; it must name exactly one image.

    Raises:
        UserError: the file cannot be read, an image is unknown or ambiguous, or a category has not ``shots`` images.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names, listed = list(reader.fieldnames or []), list(reader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; fix the key draws of {manifest.dataset}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is not a CSV in UTF-8 ({error}); save it as such") from None
    if not listed or not {"category", "image"} <= set(names):
        raise UserError(f"{path}: needs the columns category and image, and one row per image{delimiter(names)}")
    wanted = {"shots": str(shots), "seed": str(seed)}
    drawn: list[Row] = []
    for number, values in enumerate(listed, 2):
        if any(values.get(key) not in (None, "", value) for key, value in wanted.items()):
            continue
        name = (values["image"] or "").strip()
        found = [
            row
            for row in manifest.train
            if row.category == values["category"] and (row.image_path == name or row.image_path.endswith(f"/{name}"))
        ]
        if len(found) != 1:
            reason = "is not a normal training image" if not found else f"names {len(found)} images"
            raise UserError(f"{path}: line {number}: '{name}' {reason} of category '{values['category']}'")
        drawn += found
    for category in sorted({row.category for row in manifest.train}):
        count = len({row.image_id for row in drawn if row.category == category})
        if count != shots:
            raise UserError(f"{path}: lists {count} images of category '{category}' for {shots} shots and seed {seed}")
    drawn.sort(key=lambda row: row.category)
    return _as_draw(manifest, shots, seed, drawn)


def _as_draw(manifest: Manifest, shots: int, seed: int, drawn: list[Row]) -> Draw:
    return Draw(
        manifest.dataset,
        shots,
        seed,
        [row.category for row in drawn],
        [row.image_id for row in drawn],
        [row.image_path for row in drawn],
        [row.sha256 for row in drawn],
    )


def write_draw(drawn: Draw, path: Path, key: str = "") -> None:
    """Write ``drawn`` as Parquet, with its hash in the metadata."""
    facts = {"dataset": drawn.dataset, "shots": drawn.shots, "seed": drawn.seed, "hash": drawn.hash}
    columns = {
        "category": drawn.categories,
        "image_id": drawn.image_ids,
        "image_path": drawn.image_paths,
        "sha256": drawn.sha256,
    }
    schema = pa.schema([(name, pa.string()) for name in columns])
    write_parquet(path, Seal("draw", key, facts), pa.table(columns, schema=schema))


def read_draw(path: Path, key: str | None = None, of: tuple[str, int, int] | None = None) -> Draw:
    """Read what :func:`write_draw` wrote; ``key`` is the key that it must have (None: any).

    Args:
        of: dataset, shots and seed that it must belong to; None: any.

    Raises:
        BrokenFile: the file is damaged, of another key, of another dataset, shots or seed, or not a draw.
    """
    table, seal = read_parquet(path, "draw", key)
    try:
        if of is not None and (seal["dataset"], seal["shots"], seal["seed"]) != of:
            raise broken(path, f"is the draw of {seal['dataset']}/k{seal['shots']}-s{seal['seed']}")
        columns = [table[name].to_pylist() for name in ("category", "image_id", "image_path", "sha256")]
        return Draw(seal["dataset"], seal["shots"], seal["seed"], *columns)
    except (KeyError, TypeError) as error:
        raise broken(path, f"is not a draw ({error})") from None
