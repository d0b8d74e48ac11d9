"""From patch scores and original masks to pixels at evaluation size; numpy alone, no torch."""

from functools import cache

import numpy as np
from PIL import Image
from scipy import ndimage


def upsample(patch_scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Patch scores [B,h,w] as maps [B,H,W] float32: bilinear, align_corners false, as torch's interpolate."""
    if patch_scores.shape[1:] == size:
        return patch_scores.astype(np.float32, copy=False)
    rows = _weights(patch_scores.shape[1], size[0])
    columns = _weights(patch_scores.shape[2], size[1])
    return np.matmul(rows, np.matmul(patch_scores.astype(np.float32), columns.T))


def smooth(maps: np.ndarray, deviation: float) -> np.ndarray:
    """Maps [B,H,W] under a Gaussian of ``deviation`` pixels (cut at four deviations, borders reflected), float32."""
    return ndimage.gaussian_filter(maps, (0, deviation, deviation), output=np.float32)


@cache
def _weights(source: int, target: int) -> np.ndarray:
    """Row i holds the weights of the ``source`` samples that give sample i of ``target``."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, source - 1)
    fraction = position - low
    weights = np.zeros((target, source), np.float32)
    np.add.at(weights, (np.arange(target), low), 1 - fraction)
    np.add.at(weights, (np.arange(target), high), fraction)
    return weights


def soft_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A 0/1 mask at evaluation size as FoundAD's released loader makes it: PIL bilinear on 8 bits, [H,W] in [0,1]."""
    picture = Image.fromarray(mask * np.uint8(255))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR), np.float32) / 255


def nearest_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A 0/1 mask [H,W] at evaluation size by nearest neighbour (pixel centres), uint8."""
    rows = ((np.arange(size[0]) + 0.5) * mask.shape[0] / size[0]).astype(np.intp)
    columns = ((np.arange(size[1]) + 0.5) * mask.shape[1] / size[1]).astype(np.intp)
    return mask[rows[:, None], columns]
