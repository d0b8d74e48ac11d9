"""The ground truth in the place of scores, for the control that declares that it needs the truth."""

from pathlib import Path

import numpy as np

from foundad.data.manifest import Manifest
from foundad.metrics.defects import read_defects


def score_truth(manifest: Manifest, masks: Path, key: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The ground truth as scores: masks [n,S,S] uint8 (one value per image if there are none) and labels [n] float32.

    Args:
        manifest: the test images.
        masks: what the stage ``masks`` wrote of them.
        key: the key that the masks must have (None: any).

    Raises:
        BrokenFile: the masks are damaged, or of other images.
    """
    labels = np.array([row.label for row in manifest.test], np.float32)
    defects = read_defects(masks, [row.image_id for row in manifest.test], key)
    if defects is None:
        return labels.astype(np.uint8).reshape(-1, 1, 1), labels
    return np.stack([defects.mask(number) for number in range(len(labels))]), labels
