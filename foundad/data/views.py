"""Other views of a picture that training-free methods look at: turned and flipped drawn images, and query views.

Stands between decoded pictures and the encoder (support views), and between normalised images and the encoder (query views).
:mod:`foundad.data.patches` turns the scores of a query view back. Nothing is random here; random augmentation is
:mod:`foundad.pairs.augmentation`'s business.
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
    """What the drawn images are seen as: as they are first, then turned, then flipped."""
    angles = [360 * number / settings.rotations for number in range(settings.rotations)]
    turns = [partial(turned, degrees=angle) for angle in angles]
    return [*turns, *(partial(Image.Image.transpose, method=_FLIPS[flip]) for flip in settings.flips)]


def turned(image: Image.Image, degrees: float) -> Image.Image:
    """``image`` turned counter-clockwise about its centre in a frame of the same size, mirrored at its border.

    Exact for quarters of a square picture; bilinear else.
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


def seen_as(images: "torch.Tensor", query: str) -> "torch.Tensor":
    """Normalised images [B,3,S,S] under a query view; as they are where none is named.

    ``clamp`` raises what is darker than the encoder's mean colour to it.
    """
    if not query:
        return images
    return images.clamp(min=0) if query == "clamp" else images.flip(3 if query == "flip-horizontal" else 2)
