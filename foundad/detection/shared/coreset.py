"""Greedy k-centre coreset: few vectors that leave none of the others far away (PatchCore, arXiv 2106.08265, algorithm 1).

Stands between the tokens of the drawn images and a memory. The very set that the plain loop selects, faster: a distance to
the selected ones only ever falls, so that many centres are chosen among the farthest vectors before the distances of all
the others are needed, and those are then brought up to date by one matrix product.
"""

import numpy as np

FARTHEST = 512  # vectors that centres are chosen among before all distances are brought up to date
TILE = 4096


def project(vectors: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    """``vectors`` [M,D] under a Gaussian projection to ``dimensions``, float64, that keeps distances on average.

    Johnson and Lindenstrauss; left as they are where D is not larger.
    """
    channels = vectors.shape[1]
    if channels <= dimensions:
        return vectors.astype(np.float64)
    matrix = np.random.default_rng(seed).normal(size=(channels, dimensions)) / np.sqrt(dimensions)
    return np.concatenate([vectors[start : start + TILE] @ matrix for start in range(0, len(vectors), TILE)])


def greedy_k_centre(vectors: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """Rows [count] of ``vectors`` [M,D], in the order they are chosen: ``first``, then always the farthest from all before.

    Ties go to the lower row; no row is chosen twice. Holds M * (D + 1) * 8 bytes in float64 and TILE * FARTHEST * 8 bytes =
    16 MiB of products. Distances are compared in float64, where their rounding decides nothing.
    """
    squares = np.einsum("md,md->m", vectors, vectors, dtype=np.float64)
    # One column more, so that a matrix product gives |c|^2 - 2 x.c at once.
    extended = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1, dtype=np.float64)
    count = min(count, len(vectors))
    chosen = new = np.array([first], np.intp)
    distances = np.full(len(vectors), np.inf)  # squared, to the nearest chosen; -1 of the chosen themselves
    while True:
        centres = _centres(extended, squares, new)
        for start in range(0, len(vectors), TILE):
            span = slice(start, start + TILE)
            nearest = (extended[span] @ centres.T).min(axis=1)
            np.minimum(distances[span], _rounded(nearest + squares[span], squares[span]), out=distances[span])
        distances[chosen] = -1
        if len(chosen) == count:
            return chosen
        new = _choose(distances, extended, squares, count - len(chosen))
        chosen = np.concatenate([chosen, new])


def _choose(distances: np.ndarray, extended: np.ndarray, squares: np.ndarray, count: int) -> np.ndarray:
    """The next centres, at least one and at most ``count``, given up-to-date squared ``distances`` of all vectors."""
    farthest = min(FARTHEST, len(distances))
    border = -np.partition(-distances, farthest - 1)[farthest - 1]
    # Ties at the border: the lowest rows come in, as the plain loop would take them.
    above, tied = np.flatnonzero(distances > border), np.flatnonzero(distances == border)
    candidates = np.sort(np.concatenate([above, tied[: farthest - len(above)]]))
    own, own_squares = distances[candidates], squares[candidates]
    products = extended[candidates] @ _centres(extended, squares, candidates).T
    between = _rounded(products + own_squares[:, None], own_squares[:, None])
    chosen: list[int] = []
    while len(chosen) < count:
        best = int(own.argmax())
        # Vectors outside were at most ``border`` away and have only come nearer.
        if chosen and own[best] <= border:
            break
        chosen.append(best)
        np.minimum(own, between[:, best], out=own)
        own[best] = -1
    return candidates[chosen]


def _centres(extended: np.ndarray, squares: np.ndarray, rows: np.ndarray) -> np.ndarray:
    centres = -2 * extended[rows]
    centres[:, -1] = squares[rows]
    return centres


def _rounded(distances: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Squared distances with what is rounding alone, beside the vectors' own ``squares``, set to zero."""
    return np.where(distances < 1e-13 * squares, 0, distances)
