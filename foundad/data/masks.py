"""Decoding and resizing of masks, the same everywhere.

A mask is 1 wherever any colour channel is above the threshold; of a mask with transparent parts, see :func:`mask_array`. A
mask may be a folder of pictures, which count together. Their files are read as :mod:`foundad.data.images` says.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from foundad.data.images import UNSCALED, WIDE_GREY, decode, has_alpha, read_bytes, to_rgba
from foundad.data.listing import IMAGE_SUFFIXES, children
from foundad.errors import UserError


def mask_files(path: Path) -> list[Path]:
    """The pictures of a mask: itself, or those right in its folder, sorted by name (no hidden and no other files).

    Raises:
        UserError: the folder cannot be read.
    """
    if not path.is_dir():
        return [path]
    return [part for part in children(path) if part.suffix.lower() in IMAGE_SUFFIXES and not part.name.startswith(".")]


def load_mask(path: Path, threshold: int = 0) -> np.ndarray:
    """The mask at ``path`` as [H,W] uint8, 1 = defect; of a folder the union of its pictures.

    Raises:
        UserError: it cannot be read, or the pictures of a folder are none or differ in size.
    """
    return union([mask_array(decode(read_bytes(part), part), threshold) for part in mask_files(path)], path)


def union(masks: list[np.ndarray], path: Path) -> np.ndarray:
    """Masks [H,W] of the parts of ``path`` as one.

    Raises:
        UserError: there are none, or their sizes differ.
    """
    if not masks or len({mask.shape for mask in masks}) > 1:
        raise UserError(f"{path}: must hold masks of one size; it holds {len(masks)} pictures")
    whole = masks[0]
    for mask in masks[1:]:
        whole = whole | mask
    return whole


def mask_array(image: Image.Image, threshold: int = 0) -> np.ndarray:
    """A decoded mask as [H,W] uint8, 1 wherever any colour channel is above ``threshold``.

    Where a mask has transparent parts (alpha at most ``threshold``), they are ground. The opaque part is the defect if its
    colours say nothing: all of them above the threshold, or none (black ink on transparent ground).
    """
    if has_alpha(image):
        rgba = np.asarray(to_rgba(image))
        coloured = np.asarray((rgba[..., :3] > threshold).any(axis=2))
        opaque: np.ndarray = rgba[..., 3] > threshold
        if opaque.all():
            return coloured.astype(np.uint8)
        inked = coloured & opaque
        return (inked if inked.any() else opaque).astype(np.uint8)
    if image.mode in WIDE_GREY or image.mode in UNSCALED or image.mode == "L":
        return (np.asarray(image) > threshold).astype(np.uint8)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    found: np.ndarray = np.asarray(image.convert("RGB")) > threshold
    return found.max(axis=2).astype(np.uint8)


def resize_mask(mask: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """A binary mask [H,W] at ``height`` x ``width`` (None: square) by nearest neighbour (pixel centres), uint8."""
    width = height if width is None else width
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(np.intp)
    return mask[rows[:, None], columns]


def soft_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A 0/1 mask at ``size`` as FoundAD's released loader resizes it: PIL bilinear on 8 bits, [H,W] in [0,1]."""
    picture = Image.fromarray(mask * np.uint8(255))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR), np.float32) / 255
