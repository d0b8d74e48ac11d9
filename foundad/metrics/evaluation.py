"""Stage ``evaluate``: every metric of one cell under every protocol, category by category.

Reads the cell's patch-grid scores and the ground truth, writes one row a category and metric. Changing a metric redoes
this stage alone. Which metrics there are is :mod:`foundad.metrics`' business.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from foundad.data.images import load_mask
from foundad.data.manifest import Manifest, Row
from foundad.key import BY_HAND, Key
from foundad.metrics import Value, evaluate_category
from foundad.paths import Cell
from foundad.scores import Scores, read_scores
from foundad.sealed import Seal, write_parquet

METRICS_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("encoder", pa.string()),
        ("method", pa.string()),
        ("shots", pa.int32()),
        ("seed", pa.int32()),
        ("category", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class Maps:
    """How patch scores become anomaly maps: of ``size`` x ``size`` pixels, smoothed (sigma in pixels, 0: not), and where."""

    size: int
    smoothing: float = 0.0
    device: str = "cpu"


def evaluate_cell(cell: Cell, manifest: Manifest, scores: Path, out: Path, maps: Maps, key: Key = BY_HAND) -> None:
    """Write the metrics of ``cell`` from its ``scores``; rows sorted by category, metric.

    ``key`` is the job's, with that of the scores. The file names the scores that it comes from.
    """
    image_ids = [row.image_id for row in manifest.test]
    found, checksum = read_scores(scores, cell, image_ids, key.of("scores"))
    categories = np.array([row.category for row in manifest.test])
    rows = []
    for category in sorted(set(categories.tolist())):
        numbers = np.flatnonzero(categories == category)
        images = [manifest.test[number] for number in numbers]

        def load(number: int, images: list[Row] = images) -> np.ndarray | None:
            path = images[number].mask_path
            return None if path is None else load_mask(manifest.root / path, manifest.mask_threshold)

        for metric in evaluate_category(
            found.image_scores[numbers],
            np.array([image.label for image in images]),
            found.patch_scores[numbers],
            load,
            manifest.has_masks,
            (maps.size, maps.size),
            maps.smoothing,
            maps.device,
            None if found.windows is None else found.windows[numbers],
        ):
            rows.append((category, metric))
        rows.append((category, false_positive_rate(found, numbers, images)))
    columns = {
        "dataset": [cell.dataset] * len(rows),
        "encoder": [cell.encoder] * len(rows),
        "method": [cell.method] * len(rows),
        "shots": [cell.shots] * len(rows),
        "seed": [cell.seed] * len(rows),
        "category": [category for category, _ in rows],
        "metric": [metric.metric for _, metric in rows],
        "value": [metric.value for _, metric in rows],
        "reason": [metric.reason for _, metric in rows],
    }
    table = pa.table(columns, schema=METRICS_SCHEMA).sort_by([("category", "ascending"), ("metric", "ascending")])
    write_parquet(out, Seal("metrics", key.own, {"scores": checksum}), table)


def false_positive_rate(scores: Scores, numbers: np.ndarray, images: list[Row]) -> Value:
    """Share of the normal test images that the model's threshold calls anomalous."""
    normal = np.array([number for number, image in zip(numbers, images, strict=True) if not image.label], np.intp)
    thresholds = scores.thresholds[normal]
    if not len(normal):
        return Value("i_fpr", None, "no normal image")
    if np.isnan(thresholds).any():
        return Value("i_fpr", None, "no threshold: too few normal images to learn one from")
    return Value("i_fpr", float((scores.image_scores[normal] > thresholds).mean()))
