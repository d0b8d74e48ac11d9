"""Stage ``draw``: which few normal images a model learns from.

Images are sorted by id and permuted by a generator of their own for each dataset, category and seed: the draw does not
depend on other categories or on the file system, and 1 shot lies in 2 shots lies in 4.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foundad.data.manifest import Manifest, Row
from foundad.errors import UserError
from foundad.files import write_parquet


@dataclass(frozen=True)
class Draw:
    """The drawn images, category by category; lists run in parallel."""

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
        UserError: a category has fewer.
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
    return Draw(
        manifest.dataset,
        shots,
        seed,
        [row.category for row in drawn],
        [row.image_id for row in drawn],
        [row.image_path for row in drawn],
        [row.sha256 for row in drawn],
    )


def write_draw(drawn: Draw, path: Path) -> None:
    """Write ``drawn`` as Parquet, with its hash in the metadata."""
    facts = {"dataset": drawn.dataset, "shots": drawn.shots, "seed": drawn.seed, "hash": drawn.hash}
    columns = {
        "category": drawn.categories,
        "image_id": drawn.image_ids,
        "image_path": drawn.image_paths,
        "sha256": drawn.sha256,
    }
    schema = pa.schema([(name, pa.string()) for name in columns], metadata={"foundad": json.dumps(facts)})
    write_parquet(pa.table(columns, schema=schema), path)


def read_draw(path: Path) -> Draw:
    """What :func:`write_draw` wrote."""
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[b"foundad"])
    columns = table.to_pydict()
    return Draw(
        facts["dataset"],
        facts["shots"],
        facts["seed"],
        columns["category"],
        columns["image_id"],
        columns["image_path"],
        columns["sha256"],
    )
