"""Decoding and resizing of pictures, the same everywhere; masks are :mod:`foundad.data.masks`'s work.

Rules: EXIF orientation is applied, a broken EXIF block is passed over; 16-bit grey is scaled by 1/257 to 8 bits;
palettes become RGB; alpha is composited on black; grey is repeated in three channels; CMYK becomes RGB. Modes whose
black and white nobody knows (floating point, 32-bit integers) are refused. Only the formats in ``FORMATS`` are decoded,
whatever a file is called.
"""

import errno
import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

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
UNSCALED = {"I": "32-bit integers", "F": "floating-point numbers"}
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
    return upright(image)


def upright(image: Image.Image) -> Image.Image:
    """``image`` turned as its EXIF orientation says; the same object if it is upright."""
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
    if image.mode in UNSCALED:
        raise UserError(
            f"{path}: holds {UNSCALED[image.mode]} (mode {image.mode}), and nothing says which is black and which white; "
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
        rgba = to_rgba(image)
        ground = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")


def has_alpha(image: Image.Image) -> bool:
    """Whether parts of ``image`` may be transparent."""
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or (
        "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    )


def to_rgba(image: Image.Image) -> Image.Image:
    """``image`` with an alpha channel, 8 bits each."""
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def load_image(path: Path) -> Image.Image:
    """The picture at ``path`` as 8-bit RGB; UserError if it cannot be read.

    The stage ``manifest`` has checked the dataset's own limit of pixels; here only ``LARGEST`` applies.
    """
    image = decode(read_bytes(path), path)
    reject_unscaled(image, path)
    return to_rgb(image)


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
