"""Binary pictures as runs: maximal horizontal stretches of equal pixels, and the regions that touching runs form.

A run takes a few bytes however long it is, and regions are found among runs, not among pixels.
"""

from typing import NamedTuple

import numpy as np


class Runs(NamedTuple):
    """Runs of one picture [H,W] from left to right and top to bottom.

    starts: [R], number of the first pixel in row-major order. lengths: [R], pixels. values: [R], value of the pixels.
    """

    starts: np.ndarray
    lengths: np.ndarray
    values: np.ndarray


NO_RUNS = Runs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8))


def runs_of(picture: np.ndarray) -> Runs:
    """The runs of the pixels of ``picture`` [H,W] bool or uint8 that are not 0; a run ends where its value or row ends."""
    if not picture.any():
        return NO_RUNS
    height, width = picture.shape
    # A column of zeros ends the runs of every row.
    padded = np.zeros(height * (width + 1) + 1, np.uint8)
    padded[1:].reshape(height, width + 1)[:, :width] = picture
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    values = padded[edges + 1]
    kept = np.flatnonzero(values)
    starts = edges[kept]
    return Runs(starts - starts // (width + 1), edges[kept + 1] - starts, values[kept])


def connected(
    images: np.ndarray, starts: np.ndarray, lengths: np.ndarray, size: tuple[int, int], corners: bool = True
) -> np.ndarray:
    """Number of the region of every run, [R] int32 counted from 1 in the order of their first runs.

    Args:
        images: [R], the picture of each run, ascending; runs of different pictures do not touch.
        starts, lengths: [R], as in :class:`Runs`, ascending within a picture.
        size: height and width of the pictures.
        corners: whether pixels that meet at a corner touch (8-connectivity; otherwise 4).
    """
    from scipy.sparse import coo_array  # imported here: evaluation reads regions and needs no SciPy
    from scipy.sparse.csgraph import connected_components

    # Places in one long row: a column of zeros behind every row and a row of zeros behind every picture.
    row = size[1] + 1
    begins = starts + starts // size[1] + images.astype(np.int64) * ((size[0] + 1) * row)
    ends = begins + lengths
    # In the row below, a run touches those that end behind its start and start before its end.
    first = np.searchsorted(ends, begins + row, side="left" if corners else "right")
    last = np.searchsorted(begins, ends + row, side="right" if corners else "left")
    touching = last - first
    upper = np.repeat(np.arange(len(begins)), touching)
    lower = np.repeat(first - np.cumsum(touching) + touching, touching) + np.arange(len(upper))
    # Runs of different values may touch within a row.
    left = np.flatnonzero(ends[:-1] == begins[1:])
    pairs = np.concatenate([upper, left]), np.concatenate([lower, left + 1])
    graph = coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(len(begins), len(begins)))
    numbers: np.ndarray = connected_components(graph, directed=False)[1]
    return numbers + 1
