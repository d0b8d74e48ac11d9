"""Views of pictures for training-free methods: rotated and flipped drawn images (support views), and query views.

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
    """The functions that make the support views of a drawn image: first unchanged, then rotated, then flipped."""
    angles = [360 * number / settings.rotations for number in range(settings.rotations)]
    turns = [partial(turned, degrees=angle) for angle in angles]
    return [*turns, *(partial(Image.Image.transpose, method=_FLIPS[flip]) for flip in settings.flips)]


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


def seen_as(images: "torch.Tensor", query: str) -> "torch.Tensor":
    """Normalised images [B,3,S,S] under the query view ``query``; unchanged if it is empty.

    ``clamp`` raises values below the encoder's mean colour to it.
    """
    if not query:
        return images
    return images.clamp(min=0) if query == "clamp" else images.flip(3 if query == "flip-horizontal" else 2)
