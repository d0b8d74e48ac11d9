"""Decoding and resizing of pictures and masks, the same everywhere.

Rules: EXIF orientation is applied; 16-bit grey is scaled by 1/257 to 8 bits; palettes become RGB; alpha is composited
on black; grey is repeated in three channels; CMYK becomes RGB. A mask is 1 wherever any colour channel is not 0.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from foundad.errors import UserError

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
ORIENTATION = 0x0112  # tag of EXIF
_WIDE_GREY = {"I", "I;16", "I;16B", "I;16L", "F"}


def decode(data: bytes, path: Path) -> Image.Image:
    """The upright picture in ``data``, every pixel decoded; ``path`` names it in errors.

    Raises:
        UserError: the bytes are no picture, or a truncated one.
    """
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: is no readable picture ({type(error).__name__}); replace or remove it") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: is damaged ({error}); replace or remove it") from None
    # Without an orientation exif_transpose would copy every pixel.
    return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit RGB by the rules of this module."""
    if image.mode in _WIDE_GREY:
        grey = np.clip(np.rint(np.asarray(image, np.float64) / 257), 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")


def load_image(path: Path) -> Image.Image:
    """The picture at ``path`` as 8-bit RGB; UserError if it cannot be read."""
    return to_rgb(decode(read_bytes(path), path))


def load_mask(path: Path, threshold: int = 0) -> np.ndarray:
    """The mask at ``path`` as [H,W] uint8, 1 = defect; of a folder the union of its pictures.

    Raises:
        UserError: it cannot be read, or the pictures of a folder are none or differ in size.
    """
    if not path.is_dir():
        return mask_array(decode(read_bytes(path), path), threshold)
    masks = [load_mask(part, threshold) for part in sorted(path.iterdir()) if not part.name.startswith(".")]
    if not masks or len({mask.shape for mask in masks}) > 1:
        raise UserError(f"{path}: must hold masks of one size; it holds {len(masks)} pictures")
    return np.bitwise_or.reduce(np.stack(masks), axis=0)


def mask_array(image: Image.Image, threshold: int = 0) -> np.ndarray:
    """A decoded mask as [H,W] uint8, 1 wherever any colour channel is above ``threshold``."""
    if image.mode in _WIDE_GREY or image.mode == "L":
        return (np.asarray(image) > threshold).astype(np.uint8)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    coloured: np.ndarray = np.asarray(image.convert("RGB")) > threshold
    return coloured.max(axis=2).astype(np.uint8)


def read_bytes(path: Path) -> bytes:
    """All bytes of ``path``; UserError if it is missing or not readable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; check that it exists and its permissions") from None


def resize_square(image: Image.Image, size: int, interpolation: str) -> np.ndarray:
    """``image`` squashed to ``size`` x ``size`` with antialiasing, [size,size,3] uint8."""
    return np.asarray(image.resize((size, size), FILTERS[interpolation]))


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A binary mask [H,W] at ``size`` x ``size`` by nearest neighbour (pixel centres), uint8."""
    rows = ((np.arange(size) + 0.5) * mask.shape[0] / size).astype(np.intp)
    columns = ((np.arange(size) + 0.5) * mask.shape[1] / size).astype(np.intp)
    return mask[rows[:, None], columns]
