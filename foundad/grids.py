"""Patch tokens as grids: layers apart, neighbourhoods averaged, coarse grids made finer.

Shared by the methods that read more than single tokens; numpy alone, no torch.
"""

from collections.abc import Sequence

import numpy as np

from foundad.config import Layer


def side(tokens: np.ndarray) -> int:
    """Patch tokens per side of [B,N,D]."""
    return round(tokens.shape[1] ** 0.5)


def split(tokens: np.ndarray, layers: Sequence[Layer]) -> list[np.ndarray]:
    """The layers of [B,N,D], each at its own grid: [B,grid*grid,channels].

    Without ``layers`` all channels are one.
    """
    grid = side(tokens)
    found, start = [], 0
    for channels, own in layers or [Layer(tokens.shape[2], grid)]:
        part = tokens[:, :, start : start + channels]
        start += channels
        step = grid // own
        if step > 1:  # its tokens are repeated: one of each is the layer itself
            part = part.reshape(len(part), grid, grid, channels)[:, ::step, ::step].reshape(len(part), -1, channels)
        found.append(part)
    return found


def averaged(tokens: np.ndarray, width: int) -> np.ndarray:
    """Every token of [B,N,D] replaced by the mean of its ``width`` x ``width`` neighbourhood, zeros around the grid."""
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
    """[B,N,D] on a grid that is a multiple of its own: every token repeated."""
    own = side(tokens)
    maps = tokens.reshape(len(tokens), own, own, -1).repeat(grid // own, axis=1).repeat(grid // own, axis=2)
    return maps.reshape(len(tokens), grid * grid, -1)


def resized(tokens: np.ndarray, grid: int) -> np.ndarray:
    """[B,N,D] on a grid of ``grid`` tokens per side, bilinear (align_corners false)."""
    own = side(tokens)
    if own == grid:
        return tokens
    weights = _bilinear(own, grid)
    maps = tokens.reshape(len(tokens), own, own, -1)
    maps = np.einsum("yh,bhwd->bywd", weights, maps, optimize=True)
    return np.einsum("xw,bywd->byxd", weights, maps, optimize=True).reshape(len(tokens), grid * grid, -1)


def _bilinear(source: int, target: int) -> np.ndarray:
    """Row i holds the weights of the ``source`` samples that give sample i of ``target``."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.floor(position).astype(np.intp)
    weights = np.zeros((target, source), np.float32)
    np.add.at(weights, (np.arange(target), low), 1 - (position - low))
    np.add.at(weights, (np.arange(target), np.minimum(low + 1, source - 1)), position - low)
    return weights


def as_array(layers: Sequence[Layer]) -> np.ndarray:
    """``layers`` as a detector's state keeps them: [L,2] int64."""
    return np.array(layers, np.int64).reshape(-1, 2)


def from_array(array: np.ndarray) -> tuple[Layer, ...]:
    """What :func:`as_array` was given."""
    return tuple(Layer(*map(int, row)) for row in array)
