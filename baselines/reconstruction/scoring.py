"""Image scores from smoothed maps, exactly as both published codes compute them."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.reconstruction.keys import Reconstruction
from foundad.detection.shared.grids import extended
from foundad.scores import top_k_mean


def map_scores(patch_scores: np.ndarray, settings: Reconstruction, inside: np.ndarray | None = None) -> np.ndarray:
    """Image scores [B] float32 of patch scores [B,N]: the mean of the largest pixels of the smoothed map.

    The map is brought to ``map_size`` (bilinear, corners aligned), to ``score_size`` (bilinear, corners not aligned), and
    smoothed in a small window, with zeros around the map.

    Args:
        inside: [B,N] bool, patches that show the picture; None = all. Pixels of the others do not count.
    """
    assert settings.window is not None
    shown = extended(patch_scores[:, :, None], inside)[:, :, 0]
    maps = smoothed(upsampled(shown, settings), settings.window, settings.window_deviation)
    pixels = maps.flatten(1).numpy()
    kept = None
    if inside is not None:
        shares = upsampled(inside.astype(np.float32), settings).flatten(1).numpy()
        kept = shares >= 0.5 * shares.max(axis=1, keepdims=True)
    return top_k_mean(pixels, settings.top_k or 1, kept, settings.top_share)


def upsampled(patch_scores: np.ndarray, settings: Reconstruction) -> Tensor:
    """Maps [B,1,S,S] of patch scores [B,N], S the ``score_size``."""
    grid = math.isqrt(patch_scores.shape[1])
    maps = torch.from_numpy(np.ascontiguousarray(patch_scores)).view(-1, 1, grid, grid)
    maps = F.interpolate(maps, size=(settings.map_size,) * 2, mode="bilinear", align_corners=True)
    return F.interpolate(
        maps, size=(settings.score_size or settings.map_size,) * 2, mode="bilinear", align_corners=False
    )


def smoothed(maps: Tensor, window: int, deviation: float) -> Tensor:
    """``maps`` [B,1,S,S] under a Gaussian cut to ``window`` x ``window`` pixels and scaled to a sum of one."""
    places = torch.arange(window, dtype=torch.float32) - (window - 1) / 2
    line = torch.exp(-(places**2) / (2 * deviation**2))
    kernel = torch.outer(line, line)
    return F.conv2d(maps, (kernel / kernel.sum())[None, None], padding=window // 2)
