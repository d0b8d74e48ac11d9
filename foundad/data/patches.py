"""Patches of a picture, behind the encoder: which show the picture, and where they lie under a query view.

Patches on the padding of ``size_mode: pad`` are no data. Arrays ``inside`` [B,N] bool say which patches show the picture.
"""

import numpy as np


def any_padding(inside: np.ndarray | None) -> np.ndarray | None:
    """``inside`` [B,N] bool as methods read it: None if every patch shows the picture, whatever the encoder's mode."""
    return None if inside is None or inside.all() else inside


def seen_inside(inside: np.ndarray | None, view: str) -> np.ndarray | None:
    """``inside`` [B,N] of unchanged pictures, moved to the places of a query view (a flip is its own inverse)."""
    if inside is None or not view:
        return inside
    grid = round(inside.shape[1] ** 0.5)
    return np.ascontiguousarray(turned_back(inside.reshape(-1, grid, grid), view)).reshape(inside.shape)


def filled(patch_scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Patch scores [B,N] where every patch on the padding has the score of the nearest patch ``inside`` [B,N]."""
    grid = round(patch_scores.shape[1] ** 0.5)
    places = np.arange(grid)
    scores = patch_scores.reshape(-1, grid, grid).copy()
    for image, kept in zip(scores, inside.reshape(-1, grid, grid), strict=True):
        # The patches inside are a rectangle.
        rows, columns = (np.flatnonzero(kept.any(axis=axis)) for axis in (1, 0))
        image[:] = image[places.clip(rows[0], rows[-1])[:, None], places.clip(columns[0], columns[-1])]
    return scores.reshape(patch_scores.shape)


def turned_back(maps: np.ndarray, query: str) -> np.ndarray:
    """Patch scores [B,h,w] of a query view, at the places of the picture as it is."""
    if query == "clamp":
        return maps
    return maps[:, :, ::-1] if query == "flip-horizontal" else maps[:, ::-1]
