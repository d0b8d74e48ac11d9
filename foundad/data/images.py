"""Decodes and resizes pictures and masks; every stage uses these rules.

EXIF orientation is applied, and a broken EXIF block is ignored. 16-bit grey is scaled by 1/257 to 8 bits. Palettes
become RGB, alpha is composited on black, grey is repeated in three channels, CMYK becomes RGB. Modes without a known
black and white (floating point, 32-bit integers) are refused. A mask is 1 wherever any colour channel is above the
threshold; for masks with transparent parts see :func:`mask_array`. Only the formats in ``FORMATS`` are decoded,
whatever a file is called.
"""

import errno
import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from foundad.data.listing import IMAGE_SUFFIXES, children
from foundad.errors import MachineError, UserError

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
LARGEST = 1 << 30  # pixels; no key raises this limit: 3 GiB as RGB
# Errors of the file, not of the machine (too many open files, a failing disk).
OF_THE_FILE = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}
ORIENTATION = 0x0112  # tag of EXIF
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WIDE_GREY = {"I;16", "I;16B", "I;16L", "I;16N"}
_UNSCALED = {"I": "32-bit integers", "F": "floating-point numbers"}
_COLOURS = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}

# decode() checks the limit of the dataset's key and raises an error; Pillow's own limit only warns at first.
Image.MAX_IMAGE_PIXELS = None


def decode(data: bytes, path: Path, max_pixels: int = LARGEST) -> Image.Image:
    """The upright picture in ``data``, every pixel decoded; ``path`` names it in errors.

    Raises:
        UserError: the bytes are not a picture of ``FORMATS``, are damaged, or have more than ``max_pixels`` pixels.
        MachineError: there is not enough memory for it.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        pixels = image.width * image.height
        if pixels > max_pixels:
            cure = "raise the dataset's key max_pixels" if max_pixels < LARGEST else "make it smaller"
            raise UserError(
                f"{path}: has {pixels} pixels ({image.width}x{image.height}), the limit is {max_pixels}; {cure}, "
                "or replace or remove it"
            )
        image.load()
        if image.mode in ("P", "PA"):
            image.convert("RGBA")  # fails if pixels or transparency name a colour that the palette lacks
    except UserError:
        raise
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise UserError(f"{path}: is not a readable picture (known formats: {kinds}); replace or remove it") from None
    except MemoryError:
        raise MachineError(f"{path}: there is not enough memory to decode it; free some") from None
    except Exception as error:  # decoders may raise anything on hostile bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is damaged ({reason}); replace or remove it") from None
    turn = UPRIGHT.get(_orientation(image))
    # An upright picture is not transposed: that would copy every pixel.
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where the block is missing or broken."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # EXIF may hold anything, and the pixels do not depend on it
        return 1
    return found if isinstance(found, int) else 1


def reject_unscaled(image: Image.Image, path: Path) -> None:
    """Refuse a picture whose values of black and white are unknown.

    Raises:
        UserError: its mode is floating point, 32-bit integers, or cannot become RGB.
    """
    if image.mode in _UNSCALED:
        raise UserError(
            f"{path}: holds {_UNSCALED[image.mode]} (mode {image.mode}), and nothing says which is black and which white; "
            "save it with 8 or 16 bits, values from 0 to 255 or 0 to 65535"
        )
    if image.mode not in WIDE_GREY and image.mode not in _COLOURS:
        raise UserError(f"{path}: has the colour mode {image.mode}; save it as RGB or grey")


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit RGB by the rules of this module; its mode must pass :func:`reject_unscaled`."""
    if image.mode in WIDE_GREY:
        grey = np.clip(np.rint(np.asarray(image, np.float64) / 257), 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if has_alpha(image):
        rgba = _rgba(image)
        ground = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")


def has_alpha(image: Image.Image) -> bool:
    """Whether parts of ``image`` may be transparent."""
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or (
        "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    )


def _rgba(image: Image.Image) -> Image.Image:
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def load_image(path: Path) -> Image.Image:
    """The picture at ``path`` as 8-bit RGB; UserError if it cannot be read.

    The stage ``manifest`` has checked the dataset's own limit of pixels; here only ``LARGEST`` applies.
    """
    image = decode(read_bytes(path), path)
    reject_unscaled(image, path)
    return to_rgb(image)


def mask_files(path: Path) -> list[Path]:
    """The pictures of a mask: the file itself, or the visible image files directly in its folder, sorted by name.

    Raises:
        UserError: the folder cannot be read.
    """
    if not path.is_dir():
        return [path]
    return [part for part in children(path) if part.suffix.lower() in IMAGE_SUFFIXES and not part.name.startswith(".")]


def load_mask(path: Path, threshold: int = 0) -> np.ndarray:
    """The mask at ``path`` as [H,W] uint8, 1 = defect; for a folder the union of its pictures.

    Raises:
        UserError: it cannot be read, or a folder has no pictures or pictures of different sizes.
    """
    return union([mask_array(decode(read_bytes(part), part), threshold) for part in mask_files(path)], path)


def union(masks: list[np.ndarray], path: Path) -> np.ndarray:
    """The union of ``masks`` [H,W], the parts of ``path``.

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

    Transparent parts (alpha at most ``threshold``) are background. If no pixel of the opaque part is above the
    threshold (black ink on a transparent background), the whole opaque part is the defect.
    """
    if has_alpha(image):
        rgba = np.asarray(_rgba(image))
        coloured = np.asarray((rgba[..., :3] > threshold).any(axis=2))
        opaque: np.ndarray = rgba[..., 3] > threshold
        if opaque.all():
            return coloured.astype(np.uint8)
        inked = coloured & opaque
        return (inked if inked.any() else opaque).astype(np.uint8)
    if image.mode in WIDE_GREY or image.mode in _UNSCALED or image.mode == "L":
        return (np.asarray(image) > threshold).astype(np.uint8)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    found: np.ndarray = np.asarray(image.convert("RGB")) > threshold
    return found.max(axis=2).astype(np.uint8)


def read_bytes(path: Path) -> bytes:
    """All bytes of ``path``; UserError if it is missing or not readable, MachineError if the machine fails."""
    try:
        return path.read_bytes()
    except OSError as error:
        reason = f"{path}: cannot be read: {error.strerror}; check that it exists and its permissions"
        raise (UserError if error.errno in OF_THE_FILE else MachineError)(reason) from None
    except ValueError:
        raise UserError(f"{path!r}: is not a file name; correct it where it is given") from None


def resize_square(image: Image.Image, size: int, interpolation: str) -> np.ndarray:
    """``image`` squashed to ``size`` x ``size`` with antialiasing, [size,size,3] uint8."""
    return np.asarray(image.resize((size, size), FILTERS[interpolation]))


def resize_mask(mask: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """A binary mask [H,W] uint8 at ``height`` x ``width`` (None: square), by nearest neighbour (pixel centres)."""
    width = height if width is None else width
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(np.intp)
    return mask[rows[:, None], columns]
