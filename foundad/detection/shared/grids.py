"""Patch tokens as grids: separates layers, averages neighbourhoods, resizes coarse grids and handles padding.

Shared by the methods that read more than single tokens; numpy alone, no torch. ``inside`` is always [B,N] bool and says
which patches show the picture. None means all, and then nothing changes.
"""

from collections.abc import Sequence

import numpy as np

from foundad.config.encoder import Layer
from foundad.data.frame import bilinear_weights


def side(tokens: np.ndarray) -> int:
    """Number of patch tokens per side of the grid of [B,N,D]."""
    return round(tokens.shape[1] ** 0.5)


def split(tokens: np.ndarray, layers: Sequence[Layer]) -> list[np.ndarray]:
    """The layers of [B,N,D], each at its own grid: [B,grid*grid,channels].

    Without ``layers``, all channels are one layer.
    """
    grid = side(tokens)
    found, start = [], 0
    for channels, own in layers or [Layer(tokens.shape[2], grid)]:
        part = tokens[:, :, start : start + channels]
        start += channels
        step = grid // own
        if step > 1:  # a coarser layer's tokens are repeated: keep one of each
            part = part.reshape(len(part), grid, grid, channels)[:, ::step, ::step].reshape(len(part), -1, channels)
        found.append(part)
    return found


def averaged(tokens: np.ndarray, width: int) -> np.ndarray:
    """[B,N,D] with every token averaged over its ``width`` x ``width`` neighbourhood, zeros around the grid."""
    if width == 1:
        return tokens
    grid, half = side(tokens), width // 2
    maps = tokens.reshape(len(tokens), grid, grid, -1)
    for axis in (1, 2):
        padding = [(0, 0)] * 4
        padding[axis] = (half, half)
        padded = np.pad(maps, padding)
        shifted = [padded.take(range(start, start + grid), axis) for start in range(width)]
        maps = np.add.reduce(shifted) / np.float32(width)
    return maps.reshape(tokens.shape)


def repeated(tokens: np.ndarray, grid: int) -> np.ndarray:
    """[B,N,D] on a finer grid that is a multiple of its own; every token is repeated."""
    own = side(tokens)
    maps = tokens.reshape(len(tokens), own, own, -1).repeat(grid // own, axis=1).repeat(grid // own, axis=2)
    return maps.reshape(len(tokens), grid * grid, -1)


def resized(tokens: np.ndarray, grid: int) -> np.ndarray:
    """[B,N,D] resized to ``grid`` tokens per side, bilinear (align_corners false)."""
    own = side(tokens)
    if own == grid:
        return tokens
    weights = bilinear_weights(own, grid)
    maps = tokens.reshape(len(tokens), own, own, -1)
    maps = np.einsum("yh,bhwd->bywd", weights, maps, optimize=True)
    return np.einsum("xw,bywd->byxd", weights, maps, optimize=True).reshape(len(tokens), grid * grid, -1)


def blanked(tokens: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """[B,N,D] with zeros on the padding, as if the grid ended with the picture."""
    return tokens if inside is None else np.where(inside[:, :, None], tokens, tokens.dtype.type(0))


def vectors_of(tokens: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """Tokens [B,N,D] without padding, image by image, [M,D]."""
    return tokens.reshape(-1, tokens.shape[2]) if inside is None else tokens[inside]


def counts_of(tokens: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """Number of tokens without padding of each image of [B,N,D], [B]: how many :func:`vectors_of` gives of it."""
    return np.full(len(tokens), tokens.shape[1]) if inside is None else inside.sum(axis=1)


def coarser(inside: np.ndarray | None, grid: int) -> np.ndarray | None:
    """``inside`` on a coarser grid that divides its own: a coarse token counts if any of its patches does."""
    if inside is None:
        return None
    own = round(inside.shape[1] ** 0.5)
    step = own // grid
    return inside.reshape(-1, grid, step, grid, step).any(axis=(2, 4)).reshape(len(inside), -1)


def picture_of(inside: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the grid that one picture covers, from its ``inside`` [N]; pictures are rectangles."""
    grid = round(len(inside) ** 0.5)
    rows, columns = (np.flatnonzero(inside.reshape(grid, grid).any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def extended(tokens: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """[B,N,D] with the picture's nearest token on the padding, so that resizing mixes no padding into the picture."""
    if inside is None:
        return tokens
    grid = side(tokens)
    places = np.arange(grid)
    found = tokens.reshape(len(tokens), grid, grid, -1).copy()
    for image, kept in zip(found, inside, strict=True):
        rows, columns = picture_of(kept)
        near = places.clip(rows.start, rows.stop - 1)[:, None], places.clip(columns.start, columns.stop - 1)
        image[:] = image[near]
    return found.reshape(tokens.shape)


def image_means(tokens: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """Mean token of every picture without its padding, [B,N,D] -> [B,D]."""
    if inside is None:
        return tokens.mean(axis=1)
    return np.stack([image[kept].mean(axis=0) for image, kept in zip(tokens, inside, strict=True)])


def nearest_places(inside: np.ndarray) -> np.ndarray:
    """For every place of the grid, the nearest place that any picture covers (itself if it is covered), [N] int64."""
    grid = round(inside.shape[1] ** 0.5)
    rows, columns = np.divmod(np.arange(inside.shape[1]), grid)
    found = np.flatnonzero(inside.sum(axis=0))
    away = (rows[:, None] - rows[found]) ** 2 + (columns[:, None] - columns[found]) ** 2
    return np.asarray(found[away.argmin(axis=1)])


def as_array(layers: Sequence[Layer]) -> np.ndarray:
    """``layers`` as an array for a detector's state, [L,2] int64."""
    return np.array(layers, np.int64).reshape(-1, 2)


def from_array(array: np.ndarray) -> tuple[Layer, ...]:
    """The layers that :func:`as_array` was given."""
    return tuple(Layer(*map(int, row)) for row in array)
