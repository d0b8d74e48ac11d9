"""Stage ``evaluate``: computes every metric of one cell under every protocol, category by category.

Reads the cell's patch-grid scores and the ground truth, and writes one row per category and metric. A changed metric
repeats only this stage. :mod:`foundad.metrics.registry` lists the metrics.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from foundad.cells import AXES, NAMED_AXES, Cell
from foundad.data.manifest import Manifest
from foundad.data.masks import load_mask
from foundad.key import BY_HAND, Key
from foundad.metrics.category import Category, Value, evaluate_category
from foundad.metrics.defects import find_defects
from foundad.scores import read_scores
from foundad.sealed import Seal, write_parquet

# One column per axis of a cell.
CELL_COLUMNS = tuple((axis, pa.string() if axis in NAMED_AXES else pa.int32()) for axis in AXES)
METRICS_SCHEMA = pa.schema(
    [
        *CELL_COLUMNS,
        ("category", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class Maps:
    """How patch scores become anomaly maps: side and smoothing (sigma, 0 = none) in pixels, and the device."""

    size: int
    smoothing: float = 0.0
    device: str = "cpu"


def evaluate_cell(cell: Cell, manifest: Manifest, scores: Path, out: Path, maps: Maps, key: Key = BY_HAND) -> None:
    """Write the metrics of ``cell`` from its ``scores``; rows are sorted by category and metric.

    ``key`` is the job's key, with the key that the scores must have. The file names the scores that it comes from.
    """
    image_ids = [row.image_id for row in manifest.test]
    found, checksum = read_scores(scores, cell, image_ids, key.of("scores"))
    categories = np.array([row.category for row in manifest.test])
    labels = np.array([row.label for row in manifest.test])
    defects = None
    if manifest.has_masks:
        paths = (None if row.mask_path is None else manifest.root / row.mask_path for row in manifest.test)
        masks = (None if path is None else load_mask(path, manifest.mask_threshold) for path in paths)
        defects = find_defects(masks, (maps.size, maps.size))
    rows: list[tuple[str, Value]] = []
    for category in sorted(set(categories.tolist())):
        numbers = np.flatnonzero(categories == category)
        given = Category(
            found.image_scores[numbers],
            labels[numbers],
            found.patch_scores[numbers],
            None if defects is None else defects.of(numbers),
            maps.smoothing,
            maps.device,
            None if found.windows is None else found.windows[numbers],
            found.thresholds[numbers],
        )
        rows += ((category, value) for value in evaluate_category(given))
    columns = {axis: [value] * len(rows) for axis, value in asdict(cell).items()} | {
        "category": [category for category, _ in rows],
        "metric": [value.metric for _, value in rows],
        "value": [value.value for _, value in rows],
        "reason": [value.reason for _, value in rows],
    }
    table = pa.table(columns, schema=METRICS_SCHEMA).sort_by([("category", "ascending"), ("metric", "ascending")])
    write_parquet(out, Seal("metrics", key.own, {"scores": checksum}), table)
