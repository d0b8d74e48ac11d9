"""Views of pictures: rotated, flipped, shifted and grey drawn images (support views), and query views.

Support views change decoded pictures before they are fitted to the encoder. Query views change normalised images before
the encoder, and are undone in patch scores before the anomaly map. Nothing is random here; random augmentation is in
:mod:`foundad.pairs.augmentation`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch

    from foundad.config.bank import Bank

_FLIPS = {"horizontal": Image.Transpose.FLIP_LEFT_RIGHT, "vertical": Image.Transpose.FLIP_TOP_BOTTOM}
_QUARTERS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


def support_views(settings: "Bank") -> list[Callable[[Image.Image], Image.Image]]:
    """The functions that make the support views of a drawn image: first unchanged, then rotated, flipped and so on."""
    angles = [360 * number / settings.rotations for number in range(settings.rotations)]
    views: list[Callable[[Image.Image], Image.Image]] = [partial(turned, degrees=angle) for angle in angles]
    views += [partial(Image.Image.transpose, method=_FLIPS[flip]) for flip in settings.flips]
    views += [partial(turned, degrees=angle) for angle in settings.angles]
    views += [partial(shifted, right=right, down=down) for right, down in settings.shifts]
    return [*views, grey] if settings.greyscale else views


def turned(image: Image.Image, degrees: float) -> Image.Image:
    """``image`` rotated counter-clockwise about its centre in a frame of the same size, mirrored at its border.

    Exact for 180 degrees and for quarter turns of a square picture, otherwise bilinear.
    """
    quarters, rest = divmod(degrees % 360, 90)
    if not rest and (quarters == 2 or image.width == image.height):
        return image.transpose(_QUARTERS[int(quarters)]) if quarters else image
    diagonal = math.hypot(image.width, image.height)
    margins = [math.ceil((diagonal - side) / 2) + 1 for side in (image.height, image.width)]
    padding = [(margin, margin) for margin in margins] + [(0, 0)]
    padded = Image.fromarray(np.pad(np.asarray(image), padding, mode="reflect"))
    padded = padded.rotate(degrees, Image.Resampling.BILINEAR)
    left, top = margins[1], margins[0]
    return padded.crop((left, top, left + image.width, top + image.height))


def shifted(image: Image.Image, right: float, down: float) -> Image.Image:
    """``image`` moved by these shares of its width and height, to whole pixels, mirrored at its border."""
    moved = np.asarray(image)
    for axis, share in enumerate((down, right)):
        pixels = round(share * moved.shape[axis])
        margin = [(0, 0)] * moved.ndim
        margin[axis] = (max(0, pixels), max(0, -pixels))
        start = max(0, -pixels)
        moved = np.pad(moved, margin, mode="symmetric").take(range(start, start + moved.shape[axis]), axis)
    return Image.fromarray(moved)


def grey(image: Image.Image) -> Image.Image:
    """``image`` in shades of grey (ITU-R 601 luma), with as many channels as before."""
    return image.convert("L").convert(image.mode)


def seen_as(images: "torch.Tensor", query: str) -> "torch.Tensor":
    """Normalised images [B,3,S,S] under the query view ``query``; unchanged if it is empty.

    ``clamp`` raises values below the encoder's mean colour to it.
    """
    if not query:
        return images
    return images.clamp(min=0) if query == "clamp" else images.flip(3 if query == "flip-horizontal" else 2)
