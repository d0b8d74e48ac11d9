"""The pixel ordering of a category computed by torch, on a GPU or any other device: the same numbers to 1e-5.

The order is exact. Maps differ from numpy's in their last bits, so that a pixel at a near tie changes sides.

For ``foundad evaluate --device cuda`` and for maps that are already on a GPU. Regions are labelled on the CPU. The
workflow evaluates without torch: a category takes a fraction of a second there, less than a process needs to start a
GPU.
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foundad.metrics.ranking import Ordering


def upsampled(patch_scores: np.ndarray, size: tuple[int, int], device: str) -> Tensor:
    """Patch scores [b,h,w] as maps [b,H,W] float32 on ``device``: bilinear, align_corners false."""
    scores = torch.from_numpy(np.ascontiguousarray(patch_scores, np.float32)).to(device)
    return F.interpolate(scores[:, None], size, mode="bilinear", align_corners=False)[:, 0]


@torch.inference_mode()
def order(positives: Tensor, negatives: Iterable[Tensor], weights: Tensor | None = None) -> Ordering:
    """As :func:`foundad.metrics.ranking.order`, for finite scores on one device; nothing is changed in place.

    Args:
        positives: [P] float32.
        negatives: parts [m] float32 that need not be in memory together.
        weights: of the positives, [P] float64; None = one each.
    """
    ascending, by_score = torch.sort(positives)
    thresholds, counts = torch.unique_consecutive(ascending, return_counts=True)
    below = torch.cumsum(counts, 0) - counts  # positives below each threshold
    if weights is None:
        summed = (len(positives) - below).double()
    else:
        reverse = torch.cumsum(weights.double()[by_score].flip(0), 0)  # entry k: sum over the k + 1 highest
        summed = reverse[len(positives) - below - 1]
    above = torch.zeros_like(counts)
    at_or_above = torch.zeros_like(counts)
    total = 0
    for part in negatives:
        ordered = torch.sort(part).values
        total += len(part)
        above += len(part) - torch.searchsorted(ordered, thresholds, right=True)
        at_or_above += len(part) - torch.searchsorted(ordered, thresholds)

    def host(column: Tensor) -> np.ndarray:
        return column.flip(0).cpu().numpy()

    hits = len(positives) - below
    return Ordering(host(thresholds), host(hits), host(summed), host(above), host(at_or_above), len(positives), total)
