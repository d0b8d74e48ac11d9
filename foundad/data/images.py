"""Decoding and resizing of pictures and masks, the same everywhere.

Rules: the formats are PNG, JPEG, BMP, TIFF and WEBP, whatever the file is called; EXIF orientation is applied, and a broken
EXIF block is ignored; 16-bit grey is scaled by 1/257 to 8 bits; palettes become RGB; alpha is composited on black; grey is
repeated in three channels; CMYK becomes RGB; float and 32-bit pictures are refused, because nothing says what is white. A
mask is 1 wherever any colour channel is above a threshold; see :func:`mask_array` for masks with alpha.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from foundad.errors import MachineError, UserError

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # no other decoder ever sees the bytes
MAX_PIXELS = 89_478_485  # Pillow's own limit; there it only warns
ORIENTATION = 0x0112  # tag of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_16 = {"I;16", "I;16B", "I;16L", "I;16N"}
_WIDE_GREY = _GREY_16 | {"I", "F"}
_COLOUR = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV"}

# Sizes are checked here, before pixels are decoded: as an error with the key that raises the limit.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(data: bytes, path: Path, max_pixels: int | None = None) -> Image.Image:
    """The upright picture in ``data``, every pixel decoded; ``path`` names it in errors.

    Args:
        max_pixels: refuse larger pictures before they are decoded; None = no limit, for files that were verified.

    Raises:
        UserError: the bytes are no picture of a known format, a damaged one, or one beyond the limit.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if max_pixels is None or image.width * image.height <= max_pixels:
            image.load()
            return _upright(image)
    except UnidentifiedImageError:
        raise UserError(
            f"{path}: is no readable picture ({_kind(data)}); formats are {', '.join(FORMATS)}: replace or remove it"
        ) from None
    except MemoryError:
        raise MachineError(f"{path}: memory does not hold its {image.width} x {image.height} pixels") from None
    except Exception as error:  # decoders raise whatever hostile bytes lead them to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is damaged ({reason[:200]}); replace or remove it") from None
    raise UserError(
        f"{path}: has {image.width} x {image.height} pixels, more than the limit of {max_pixels}; raise it by the "
        "dataset's key max_pixels, or make the picture smaller"
    )


def _upright(image: Image.Image) -> Image.Image:
    """``image`` turned as its EXIF block says; as it is where the block is broken."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # the block is free text to the format
        orientation = 1
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _kind(data: bytes) -> str:
    """What bytes are that no decoder takes, as far as their start tells."""
    if not data:
        return "the file is empty"
    if data.startswith(b"version https://git-lfs"):
        return "a pointer of git-lfs, fetch the file with git lfs pull"
    starts = {b"%!PS": "EPS", b"8BPS": "PSD", b"DDS ": "DDS", b"GIF8": "GIF", b"<": "a web page or XML"}
    for start, name in starts.items():
        if data.lstrip()[:9].startswith(start):
            return name
    return {b"ftypavif": "AVIF", b"ftypheic": "HEIC"}.get(data[4:12], "unknown bytes")


def check_mode(image: Image.Image, path: Path) -> None:
    """Raise UserError unless ``image`` has one of the modes that :func:`to_rgb` converts."""
    if image.mode in _COLOUR or image.mode in _GREY_16:
        return
    what = {"F": "float values", "I": "32-bit values"}.get(image.mode, f"pixels of the mode {image.mode}")
    raise UserError(
        f"{path}: holds {what}, which have no fixed black and white; save it as 8-bit, or as 16-bit grey from 0 to 65535"
    )


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit RGB by the rules of this module; its mode is one that :func:`check_mode` lets through."""
    if image.mode in _WIDE_GREY:
        grey = np.clip(np.rint(np.asarray(image, np.float64) / 257), 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if _has_alpha(image):
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info


def load_image(path: Path, max_pixels: int | None = None) -> Image.Image:
    """The picture at ``path`` as 8-bit RGB; UserError if it cannot be read, see :func:`decode`."""
    image = decode(read_bytes(path), path, max_pixels)
    check_mode(image, path)
    return to_rgb(image)


def load_mask(path: Path, threshold: int = 0, max_pixels: int | None = None) -> np.ndarray:
    """The mask at ``path`` as [H,W] uint8, 1 = defect; of a folder the union of its pictures.

    Raises:
        UserError: it cannot be read, or the pictures of a folder are none or differ in size.
    """
    if not path.is_dir():
        return mask_array(decode(read_bytes(path), path, max_pixels), threshold)
    return united([load_mask(part, threshold, max_pixels) for part in mask_parts(path)], path)


def mask_parts(path: Path) -> list[Path]:
    """The pictures of a mask: the file itself, or those right in its folder, sorted by name."""
    from foundad.data.layouts.entry import images_in

    return images_in(path) if path.is_dir() else [path]


def united(masks: list[np.ndarray], path: Path) -> np.ndarray:
    """The union of ``masks`` [H,W] of one image; ``path`` names them in errors.

    Raises:
        UserError: they are none, or differ in size.
    """
    if not masks or len({mask.shape for mask in masks}) > 1:
        raise UserError(f"{path}: must hold masks of one size; it holds {len(masks)} pictures")
    return np.bitwise_or.reduce(np.stack(masks), axis=0)


def mask_array(image: Image.Image, threshold: int = 0) -> np.ndarray:
    """A decoded mask as [H,W] uint8, 1 wherever any colour channel is above ``threshold``.

    Where a part of it is transparent, only opaque pixels can be a defect: all of them if they are all coloured or all
    black (ink on a transparent ground), else the coloured ones.
    """
    coloured = mask_values(image) > threshold
    if _has_alpha(image) and image.mode not in _WIDE_GREY:
        opaque = np.asarray(image.convert("RGBA"))[..., 3] > threshold
        if not opaque.all():
            inked = coloured[opaque]
            coloured = opaque if not inked.any() else opaque & coloured
    return coloured.astype(np.uint8)


def mask_values(image: Image.Image) -> np.ndarray:
    """The largest colour channel of every pixel of a decoded mask, [H,W]; alpha plays no part."""
    if image.mode in _WIDE_GREY or image.mode == "L":
        return np.asarray(image)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8) * np.uint8(255)
    if image.mode in ("P", "PA", "LA", "La", "RGBa", "RGBA"):
        return np.asarray(image.convert("RGBA"))[..., :3].max(axis=2)
    return np.asarray(image.convert("RGB")).max(axis=2)


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
