"""Greedy k-centre coreset: few vectors such that no other is far from them (PatchCore, arXiv 2106.08265, algorithm 1).

Stands between the tokens of the drawn images and a memory. It selects the same set as the plain loop, but faster. A
vector's distance to the selected ones can only fall. So many centres are chosen among the farthest vectors alone; then
one matrix product updates the distances of all vectors.
"""

import numpy as np

FARTHEST = 512  # vectors among which centres are chosen before all distances are updated
TILE = 4096


def project(vectors: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    """Project ``vectors`` [M,D] to ``dimensions`` with a Gaussian matrix, float64; distances are kept on average.

    Johnson and Lindenstrauss. The vectors stay as they are if D is not larger than ``dimensions``.
    """
    channels = vectors.shape[1]
    if channels <= dimensions:
        return vectors.astype(np.float64)
    matrix = np.random.default_rng(seed).normal(size=(channels, dimensions)) / np.sqrt(dimensions)
    return np.concatenate([vectors[start : start + TILE] @ matrix for start in range(0, len(vectors), TILE)])


def greedy_k_centre(vectors: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """Rows [count] of ``vectors`` [M,D] in the order of choice: ``first``, then always the farthest from all chosen.

    Ties go to the lower row; no row is chosen twice. Holds M * (D + 1) * 8 bytes in float64 and TILE * FARTHEST * 8
    bytes = 16 MiB of products. Distances are compared in float64, so that rounding decides nothing.
    """
    squares = np.einsum("md,md->m", vectors, vectors, dtype=np.float64)
    # With one more column, a single matrix product gives |c|^2 - 2 x.c.
    extended = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1, dtype=np.float64)
    count = min(count, len(vectors))
    chosen = new = np.array([first], np.intp)
    distances = np.full(len(vectors), np.inf)  # squared, to the nearest chosen vector; -1 for chosen ones
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
    """The next centres, at least one and at most ``count``, given the current squared ``distances`` of all vectors."""
    farthest = min(FARTHEST, len(distances))
    border = -np.partition(-distances, farthest - 1)[farthest - 1]
    # Of vectors tied at the border the lowest rows are taken, as in the plain loop.
    above, tied = np.flatnonzero(distances > border), np.flatnonzero(distances == border)
    candidates = np.sort(np.concatenate([above, tied[: farthest - len(above)]]))
    own, own_squares = distances[candidates], squares[candidates]
    products = extended[candidates] @ _centres(extended, squares, candidates).T
    between = _rounded(products + own_squares[:, None], own_squares[:, None])
    chosen: list[int] = []
    while len(chosen) < count:
        best = int(own.argmax())
        # All other vectors were at most ``border`` away, and distances only fall.
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
    """Squared ``distances``; those that are mere rounding error beside the vectors' ``squares`` become zero."""
    return np.where(distances < 1e-13 * squares, 0, distances)
