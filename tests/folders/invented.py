"""Results folders with invented numbers, in the real files: as stages write them, without computing anything."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foundad.cells import Cell
from foundad.data.draws import draw, write_draw
from foundad.data.ledger import Ledger, write_ledger
from foundad.data.manifest import Manifest, Row, part_of, write_manifest
from foundad.failures import write_failure
from foundad.metrics.evaluation import METRICS_SCHEMA
from foundad.metrics.registry import METRICS
from foundad.paths import PARTS, WHOLE, Results
from foundad.report.collect import ANY, Keys, collect
from foundad.scores import Scores, write_scores
from foundad.sealed import Seal, write_json, write_parquet
from foundad.stored import finished_cells

VERSIONS = {"numpy": "2.0.0", "torch": "2.6.0"}


def keys_of(cell: Cell) -> Keys:
    """Keys that depend on the cell alone."""
    digest = hashlib.sha256(str(cell).encode()).hexdigest()
    return Keys(digest[:16], digest[16:32])


def manifest_of(dataset: str, categories: int = 2, train: int = 8, test: int = 4) -> Manifest:
    """A manifest of pictures that exist nowhere."""
    rows = []
    for category in (f"category-{number:02}" for number in range(categories)):
        for split, count in (("train", train), ("test", test)):
            for number in range(count):
                label, name = int(split == "test" and number % 2), f"{category}/{split}/{number:03}.png"
                digest = hashlib.sha256(f"{dataset}/{name}".encode()).hexdigest()
                mask = f"{category}/masks/{number:03}.png" if label else None
                entry = (name, category, split, label, "spot" if label else "good", name, mask)
                rows.append(Row(*entry, digest, 48, 48, "RGB", digest if label else None))
    return Manifest(dataset, True, [], sorted(rows))


def write_grounds(results: Results, cells: Iterable[Cell], manifests: Mapping[str, Manifest]) -> dict[Cell, str]:
    """The manifests and draws of ``cells``; returns the hash of each cell's draw."""
    for name in sorted({cell.dataset for cell in cells}):
        for part in (*PARTS, WHOLE):
            write_manifest(part_of(manifests[name], part), results.manifest(name, part), "ab" * 8)
        write_ledger(Ledger(), results.manifest(name), "ab" * 8)
    found = {}
    for cell in cells:
        drawn = draw(manifests[cell.dataset], cell.shots, cell.seed)
        path = results.draw(cell.dataset, cell.shots, cell.seed)
        if not path.is_file():
            write_draw(drawn, path, "cd" * 8)
        found[cell] = drawn.hash
    return found


def write_cell(
    results: Results,
    cell: Cell,
    manifest: Manifest,
    draw_hash: str,
    keys: Keys,
    shift: float = 0.0,
    **facts: Any,
) -> None:
    """Scores, record and metrics of a cell. Its numbers depend on the cell and ``shift``; ``facts`` go into the record."""
    generator = np.random.default_rng(int(hashlib.sha256(str(cell).encode()).hexdigest()[:8], 16))
    tests = manifest.test
    grid = np.full((len(tests), 2, 2), 1 + shift, np.float32)
    scores = Scores(grid, grid[:, 0, 0], np.full(len(tests), 3, np.float32))
    folder = results.cell(cell)
    checksum = write_scores(
        folder / "scores.safetensors", scores, cell, [row.image_id for row in tests], keys.fit or ""
    )
    record = {
        "status": "done",
        "cell": asdict(cell),
        "scores": checksum,
        "draw": draw_hash,
        "versions": VERSIONS,
        "method": {"id": cell.method, "control": False},
        "encoder": {"id": cell.encoder},
        "device": "cpu",
        "fit_seconds": 1.5,
        "score_seconds": 0.5,
        "images": len(tests),
        "peak_memory_bytes": 1000,
        "machine": {"host": "here"},
        "fit": {"pooled": {"parameters": 3, "state_bytes": 4, "losses": generator.uniform(0, 1, 40).round(5).tolist()}},
    }
    write_json(results.record(cell), Seal("record", keys.fit or "", record | facts))
    rows = [(category, metric) for category in sorted({row.category for row in tests}) for metric in sorted(METRICS)]
    values = generator.uniform(0.6, 0.99, len(rows)) + shift
    columns = {axis: [value] * len(rows) for axis, value in asdict(cell).items()}
    columns |= {"category": [row[0] for row in rows], "metric": [row[1] for row in rows], "value": values}
    table = pa.table(columns | {"reason": pa.nulls(len(rows), pa.string())}, schema=METRICS_SCHEMA)
    write_parquet(results.cell_metrics(cell), Seal("metrics", keys.evaluation or "", {"scores": checksum}), table)


def write_failed(results: Results, cell: Cell, reason: str, keys: Keys) -> None:
    """A cell whose fit failed."""
    folder = results.cell(cell)
    fitted = [folder / name for name in ("model.safetensors", "scores.safetensors", "record.json")]
    write_failure(fitted, reason, keys.fit or "")
    write_failure([results.cell_metrics(cell)], reason, keys.evaluation or "")


def write_study(
    root: Path,
    cells: Iterable[Cell],
    manifest: Callable[[str], Manifest] = manifest_of,
    keys: Callable[[Cell], Keys] = keys_of,
    **changes: Any,
) -> Results:
    """A results folder with ``cells`` and what they stand on; ``changes`` are those of :func:`write_cell`."""
    results, cells = Results(root), list(cells)
    manifests = {name: manifest(name) for name in {cell.dataset for cell in cells}}
    hashes = write_grounds(results, cells, manifests)
    for cell in cells:
        write_cell(results, cell, manifests[cell.dataset], hashes[cell], keys(cell), **changes)
    return results


def collected(results: Results) -> bytes:
    """metrics.parquet of all finished cells of a folder, whatever their keys."""
    collect(dict.fromkeys(finished_cells(results), ANY), results)
    return results.metrics.read_bytes()
