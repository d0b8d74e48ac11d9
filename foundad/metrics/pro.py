"""Per-region overlap (PRO): weights that make a sum over pixels a mean over defect regions, and the released variant."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

THRESHOLDS = 200  # of the released code
LIMIT = 0.3


def region_weights(masks: np.ndarray, connectivity: int = 8) -> tuple[np.ndarray, int]:
    """Weight of every defect pixel of ``masks`` [n,H,W] (0/1), in row-major order, and the number of regions.

    A pixel weighs 1 / (area of its region * number of regions): the weights of the detected pixels add up to PRO.
    """
    structure = np.ones((3, 3), bool) if connectivity == 8 else None
    weights: list[np.ndarray] = []
    regions = 0
    for mask in masks:
        if not mask.any():
            continue
        labels, count = ndimage.label(mask, structure)
        found = labels[mask > 0]
        weights.append(1 / np.bincount(found)[found])
        regions += count
    return (np.concatenate(weights) / regions if weights else np.empty(0)), regions


def released_pro(maps: np.ndarray, masks: Sequence[np.ndarray] | np.ndarray, limit: float = LIMIT) -> float | None:
    """PRO as FoundAD's released code integrates it, None where that is undefined.

    200 equidistant thresholds between the extreme scores (score > threshold); points with FPR <= ``limit`` are kept and
    their FPR is stretched to [0,1] by its own extremes.

    Args:
        maps: [n,H,W] float32. masks: [n,H,W] float in [0,1]; only pixels of exactly 1 are defects.
    """
    soft = np.asarray(masks, np.float64)
    hard = (soft == 1).astype(np.uint8)
    weights, regions = region_weights(hard)
    if not regions:
        return None
    low, high = float(maps.min()), float(maps.max())
    thresholds = np.linspace(low, high, THRESHOLDS)
    # A score passes as many thresholds as lie strictly below it.
    passed = np.searchsorted(thresholds, maps.astype(np.float64).ravel(), side="left")
    # Every pixel below 1 counts as one false positive, but as its complement in the number of negatives.
    false = _sum_from(passed, (hard.ravel() == 0).astype(np.float64))[1 : THRESHOLDS + 1] / (1 - soft).sum()
    pro = _sum_from(passed[hard.ravel() > 0], weights)[1 : THRESHOLDS + 1]
    kept = false <= limit
    false, pro = false[kept], pro[kept]
    if len(false) < 2:
        return 0.0
    spread = false.max() - false.min()
    if spread == 0:
        return None
    stretched = (false - false.min()) / spread
    return float(np.trapezoid(pro[::-1], stretched[::-1]))


def _sum_from(passed: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Entry k: sum of the weights of what passed at least k thresholds."""
    counts = np.bincount(passed, weights, minlength=THRESHOLDS + 1)
    return np.cumsum(counts[::-1])[::-1]
