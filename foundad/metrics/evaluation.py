"""Stage ``evaluate``: computes every metric of one cell under every protocol, category by category.

Reads the cell's patch-grid scores and the prepared masks, and writes one row per category and metric. A changed metric
repeats only this stage. :mod:`foundad.metrics.registry` lists the metrics.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from foundad.cells import AXES, NAMED_AXES, Cell
from foundad.data.manifest import Manifest
from foundad.key import BY_HAND, Key
from foundad.metrics.category import Category, Value, evaluate_category
from foundad.metrics.defects import read_defects
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
    """How patch scores become anomaly maps: smoothing in pixels (sigma, 0 = none), and the device."""

    smoothing: float = 0.0
    device: str = "cpu"


def evaluate_cell(
    cell: Cell, manifest: Manifest, inputs: Mapping[str, Path], out: Path, maps: Maps, key: Key = BY_HAND
) -> None:
    """Write the metrics of ``cell``; rows are sorted by category and metric. The file names the scores it comes from.

    Args:
        cell: the cell.
        manifest: its test images; their labels are needed, not their masks.
        inputs: ``scores`` of the cell and ``masks`` of the images.
        out: the file.
        maps: how scores become maps.
        key: the job's own key, and the keys that its inputs must have.

    Raises:
        BrokenFile: an input is damaged, or of other images.
    """
    image_ids = [row.image_id for row in manifest.test]
    found, checksum = read_scores(inputs["scores"], cell, image_ids, key.of("scores"))
    defects = read_defects(inputs["masks"], image_ids, key.of("masks"))
    categories = np.array([row.category for row in manifest.test])
    labels = np.array([row.label for row in manifest.test])
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
