"""Pictures and masks as callers hand them over: paths, PIL images or arrays, read by the rules of files.

Used by the Python interface (:mod:`foundad.api`) and by ``foundad predict``; stages read files alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from foundad.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    Picture = str | os.PathLike[str] | Image.Image | np.ndarray
    Mask = str | os.PathLike[str] | Image.Image | np.ndarray | None


def picture_of(given: "Picture", row: int = 0) -> "Image.Image":
    """A path, PIL image or array as an upright RGB picture, by the rules of :mod:`foundad.data.images`.

    Raises:
        UserError: it cannot be read, or nothing says which of its values are black and white.
    """
    from PIL import Image

    from foundad.data.images import load_image, reject_unscaled, to_rgb, upright

    if isinstance(given, str | os.PathLike):
        return load_image(Path(given))
    name = Path(name_of(given, row))
    if isinstance(given, np.ndarray):
        if given.ndim not in (2, 3) or given.dtype not in (np.uint8, np.uint16):
            shape = f"{given.dtype} {list(given.shape)}"
            raise UserError(f"{name}: is {shape}; give uint8 [H,W], [H,W,3] or [H,W,4], or uint16 [H,W]")
        try:
            given = Image.fromarray(np.ascontiguousarray(given))
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: is no picture: {error}; give [H,W], [H,W,3] or [H,W,4]") from None
    if not isinstance(given, Image.Image):
        raise UserError(f"{name}: is a {type(given).__name__}; give a path, a PIL image or an array")
    reject_unscaled(given, name)
    return to_rgb(upright(given))


def name_of(given: "Picture", row: int) -> str:
    """The path of a picture; ``picture 3`` for the third of those without one."""
    return os.fspath(given) if isinstance(given, str | os.PathLike) else f"picture {row + 1}"


def listed(images: Any) -> "Sequence[Picture]":
    """``images`` as a sequence: a single path, PIL image or array [H,W] or [H,W,C] is one picture."""
    if isinstance(images, str | os.PathLike) or hasattr(images, "getexif"):
        return [images]
    if isinstance(images, np.ndarray) and (images.ndim == 2 or (images.ndim == 3 and images.shape[2] in (3, 4))):
        return [images]
    return list(images)


def mask_of(given: "Mask", threshold: int) -> np.ndarray:
    """A mask as [H,W] uint8, 1 = defect."""
    from foundad.data.masks import load_mask, mask_array

    if isinstance(given, str | os.PathLike):
        return load_mask(Path(given), threshold)
    if isinstance(given, np.ndarray):
        return (given > threshold).astype(np.uint8)
    return mask_array(cast("Image.Image", given), threshold)
