"""Fits a picture to the square input of an encoder (key ``size_mode``) and says where the picture lies on that input.

Used after decoding (:mod:`foundad.data.images`) and before the encoder, for features, banks, fresh pairs and
predictions. ``squash`` resizes both sides to the input's size (as published). ``crop`` resizes the short side and cuts
out the centre. ``pad`` resizes the long side and fills the rest with the encoder's mean colour, which is zero after
normalisation. A window describes all three: where top, bottom, left and right of the picture lie on the input, as
shares of the input's side. :func:`foundad.metrics.maps.upsample` brings maps back through the same window, so every
pixel of the original has a score.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from foundad.config.encoder import Encoder

Window = tuple[float, float, float, float]
SQUASHED: Window = (0.0, 1.0, 0.0, 1.0)


def picture_pixels(encoder: "Encoder", width: int, height: int) -> tuple[slice, slice]:
    """Rows and columns of the input that show a picture of ``width`` x ``height`` pixels; the others are padding."""
    size = encoder.image_size
    if encoder.size_mode != "pad":
        return slice(0, size), slice(0, size)
    shown = [max(1, round(side * size / max(width, height))) for side in (height, width)]
    starts = [(size - side) // 2 for side in shown]
    return slice(starts[0], starts[0] + shown[0]), slice(starts[1], starts[1] + shown[1])


def window(encoder: "Encoder", width: int, height: int) -> Window:
    """Top, bottom, left and right of a picture on the input, as shares of its side; below 0 and above 1 if cropped."""
    if encoder.size_mode == "squash":
        return SQUASHED
    if encoder.size_mode == "crop":
        side = min(width, height)
        top, left = (side - height) / 2 / side, (side - width) / 2 / side
        return top, top + height / side, left, left + width / side
    rows, columns = picture_pixels(encoder, width, height)
    top, bottom, left, right = (
        edge / encoder.image_size for edge in (rows.start, rows.stop, columns.start, columns.stop)
    )
    return top, bottom, left, right


def windows(encoder: "Encoder", sizes: Iterable[tuple[int, int]]) -> np.ndarray | None:
    """The windows [n,4] float64 of pictures of ``sizes`` (width, height); None if all fill the input (``squash``)."""
    if encoder.size_mode == "squash":
        return None
    return np.array([window(encoder, width, height) for width, height in sizes], np.float64).reshape(-1, 4)


def patches_between(start: float, stop: float, patches: int) -> tuple[int, int]:
    """First and last of ``patches`` in a row whose centres lie between ``start`` and ``stop`` (shares of the side).

    If a very flat picture covers no centre, both are the patch that holds its middle.
    """
    first = max(0, int(np.ceil(start * patches - 0.5)))
    last = min(patches - 1, int(np.floor(stop * patches - 0.5)))
    if first <= last:
        return first, last
    middle = min(patches - 1, max(0, int((start + stop) / 2 * patches)))
    return middle, middle


def patches_inside(found: np.ndarray | None, grid: int) -> np.ndarray | None:
    """Which patches show the picture, [n,N] bool, for windows ``found`` [n,4]; None (all do) if ``found`` is None."""
    if found is None:
        return None
    inside = np.zeros((len(found), grid, grid), bool)
    for mask, (top, bottom, left, right) in zip(inside, found.tolist(), strict=True):
        first, last = patches_between(top, bottom, grid)
        left_patch, right_patch = patches_between(left, right, grid)
        mask[first : last + 1, left_patch : right_patch + 1] = True
    return inside.reshape(len(found), -1)


@lru_cache(256)
def bilinear_weights(source: int, target: int, start: float = 0.0, stop: float = 1.0) -> np.ndarray:
    """Weights [target,source] float32 of bilinear interpolation: row i weighs the ``source`` samples of target sample i.

    As with align_corners false. The target spans ``start`` to ``stop`` (shares of the side) and uses only samples
    inside.
    """
    first, last = patches_between(start, stop, source)
    position = start * source + (np.arange(target) + 0.5) * ((stop - start) * source) / target - 0.5
    position = np.clip(position, first, last)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, source - 1)
    fraction = position - low
    weights = np.zeros((target, source), np.float32)
    np.add.at(weights, (np.arange(target), low), 1 - fraction)
    np.add.at(weights, (np.arange(target), high), fraction)
    return weights
