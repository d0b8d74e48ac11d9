"""Turns patch scores into anomaly maps at evaluation size; numpy alone, no torch."""

import numpy as np

from foundad.data.frame import bilinear_weights


def upsample(patch_scores: np.ndarray, size: tuple[int, int], windows: np.ndarray | None = None) -> np.ndarray:
    """Patch scores [B,h,w] as maps [B,H,W] float32: bilinear, align_corners false, as torch's interpolate.

    Args:
        windows: [B,4], where each picture lies on the patches (:mod:`foundad.data.frame`); the maps show the pictures'
            own frames. Pixels beyond the picture's outermost patches take the value of the nearest one. So cropped
            pixels have a score, and padding has no influence. None = pictures and patches share one frame.
    """
    if windows is not None:
        maps = np.empty((len(patch_scores), *size), np.float32)
        for found in np.unique(windows, axis=0):
            chosen = np.flatnonzero((windows == found).all(axis=1))
            top, bottom, left, right = found.tolist()
            rows = bilinear_weights(patch_scores.shape[1], size[0], top, bottom)
            columns = bilinear_weights(patch_scores.shape[2], size[1], left, right)
            maps[chosen] = np.matmul(rows, np.matmul(patch_scores[chosen].astype(np.float32), columns.T))
        return maps
    if patch_scores.shape[1:] == size:
        return patch_scores.astype(np.float32, copy=False)
    rows = bilinear_weights(patch_scores.shape[1], size[0])
    columns = bilinear_weights(patch_scores.shape[2], size[1])
    return np.matmul(rows, np.matmul(patch_scores.astype(np.float32), columns.T))


def smooth(maps: np.ndarray, deviation: float) -> np.ndarray:
    """Smooth maps [B,H,W] by a Gaussian of ``deviation`` pixels (cut at 4 deviations, borders reflected), float32."""
    from scipy import ndimage  # imported here: costs half a second most jobs do not need

    return ndimage.gaussian_filter(maps, (0, deviation, deviation), output=np.float32)
