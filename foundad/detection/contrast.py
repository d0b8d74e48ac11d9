"""Centre minus surround: how much stranger a patch is than the patches around it (key ``contrast`` of every method).

Stands between the patch scores of a detector and everything that is made of them: image scores, thresholds and maps. Some
pictures, and some parts of them, are less like the drawn images than others without an anomaly, for example because of
their light. That raises all scores of a neighbourhood, and is subtracted here.
"""

from functools import lru_cache

import numpy as np

from foundad.config.method import Contrast


def contrasted(patch_scores: np.ndarray, settings: Contrast, inside: np.ndarray | None = None) -> np.ndarray:
    """Patch scores [B,N] float32 less ``settings.weight`` times their surround.

    The surround of a patch is the mean of all patch scores of the picture, the patch itself included, weighted by a
    Gaussian of their distance with standard deviation ``settings.sigma``, in patches. At the border of the picture the
    weights of the patches that are there sum to one, so that nothing is assumed about what lies outside.

    Args:
        inside: [B,N] bool, patches that show the picture; None = all. The others have no weight.
    """
    grid = round(patch_scores.shape[1] ** 0.5)
    weights = _weights(grid, settings.sigma)
    kept = np.ones((1, grid, grid)) if inside is None else inside.reshape(-1, grid, grid).astype(np.float64)
    maps = patch_scores.reshape(-1, grid, grid).astype(np.float64)
    surround = (weights @ (maps * kept) @ weights) / (weights @ kept @ weights)
    return (maps - settings.weight * surround).reshape(patch_scores.shape).astype(np.float32)


@lru_cache(16)
def _weights(grid: int, sigma: float) -> np.ndarray:
    """Gaussian weights [grid,grid] float64 between the places of one axis; no weight underflows to zero."""
    places = np.arange(grid)
    exponents = -np.square(places[:, None] - places) / (2 * sigma**2)
    return np.exp(np.maximum(exponents, -300.0))
