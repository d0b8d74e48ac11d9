"""Pictures and masks of every format: decoded alone, and verified as files of a small dataset."""

import io
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from mutators import either, of_bytes, of_png, of_tiff
from PIL import Image
from target import Target, new_folder

from foundad.config.dataset import Dataset
from foundad.data.images import decode, load_image
from foundad.data.masks import load_mask
from foundad.data.verify import build_manifest

SIDE = 9
LIMIT = Dataset.model_fields["max_pixels"].default


def _array(mode: str) -> np.ndarray:
    generator = np.random.default_rng(len(mode))
    shape = {"L": (SIDE, SIDE), "RGB": (SIDE, SIDE, 3), "RGBA": (SIDE, SIDE, 4), "LA": (SIDE, SIDE, 2)}.get(
        mode, (SIDE, SIDE)
    )
    return generator.integers(0, 256, shape).astype(np.uint8)


def picture(kind: str, mode: str, **options: object) -> bytes:
    """A small picture in a format and mode of Pillow."""
    if mode == "I;16":
        image = Image.fromarray(_array("L").astype(np.uint16) * 257)
    elif mode in ("F", "I"):
        image = Image.fromarray(_array("L").astype(np.float32 if mode == "F" else np.int32))
    elif mode in ("1", "P", "CMYK", "LAB"):
        image = Image.fromarray(_array("RGB" if mode != "1" else "L")).convert(mode if mode != "LAB" else "RGB")
    else:
        image = Image.fromarray(_array(mode))
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def mask(kind: str, mode: str = "L") -> bytes:
    """A small mask with a square."""
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[2:5, 3:6] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind)
    return out.getvalue()


def turned() -> Image.Exif:
    """EXIF data of a camera that lay on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "camera"
    return exif


PNG = [picture("PNG", mode) for mode in ("L", "RGB", "RGBA", "LA", "1", "P", "I;16")] + [
    picture("PNG", "RGB", exif=turned())
]
TIFF = [picture("TIFF", mode) for mode in ("L", "RGB", "RGBA", "1", "CMYK", "I;16", "F", "I")]
TIFF += [picture("TIFF", "RGB", compression=name) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")]
JPEG = [picture("JPEG", mode) for mode in ("L", "RGB", "CMYK")] + [
    picture("JPEG", "RGB", exif=turned(), progressive=True)
]
OTHERS = [picture("BMP", mode) for mode in ("L", "RGB", "1", "P")] + [
    picture("WEBP", "RGB", exif=turned()),
    picture("WEBP", "RGBA", lossless=True),
]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(canary) run\nshowpage\n%%EOF\n"
FOREIGN = [
    EPS,
    b"RIFF\x24\0\0\0WAVEfmt ",
    b"\0\0\1\0\1\0\x09\x09\0\0\1\0\x20\0",
    b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;",
]
FOREIGN += [
    picture(kind, "RGB") for kind in ("PPM", "PCX", "TGA", "DDS", "ICO", "GIF", "JPEG2000", "SGI", "IM", "PDF", "AVIF")
]
FOREIGN += [
    b"P5 9 9 65535\n" + b"\1\2" * 81,
    b"Pf 9 9 -1.0\n" + struct.pack("<81f", *range(81)),
    b"SIMPLE  =                    T" + b" " * 50,
]


def decoded(name: str, suffix: str, seeds: list[bytes], mutate: Callable[..., bytes]) -> Target:
    """A picture read as a picture and as a mask."""
    folder = new_folder("picture")
    path = folder / f"seen{suffix}"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        decode(data, path, LIMIT)  # of a dataset that says nothing else
        load_image(path)
        load_mask(path, len(data) % 2 * 127)

    return Target(name, seeds, read, mutate, (path.name,), folder)


def verified() -> Target:
    """A picture or mask of a small dataset: its name stands before the bytes."""
    folder = new_folder("verified")
    places = {
        b"image": folder / "set/cat/test/good/000.png",
        b"mask ": folder / "set/cat/ground_truth/spot/000_mask.png",
    }
    kept = {b"image": picture("PNG", "RGB"), b"mask ": mask("PNG")}
    others = {"train/good/000.png": picture("BMP", "L"), "test/spot/000.png": picture("TIFF", "RGB")}
    for name, data in others.items():
        place(folder / "set/cat" / name, data)
    dataset = Dataset.model_validate(
        {
            "id": "fuzzed",
            "title": "Fuzzed",
            "layout": "mvtec",
            "root": str(folder / "set"),
            "licence": "none",
            "source": "none",
        }
    )

    def read(data: bytes) -> None:
        for name, path in places.items():
            place(path, data[5:] if data[:5] == name else kept[name])
        build_manifest(dataset)

    seeds = [b"image" + data for data in (PNG + TIFF + JPEG + OTHERS)[::3]]
    seeds += [
        b"mask " + mask(kind, mode)
        for kind, mode in (("PNG", "L"), ("PNG", "1"), ("PNG", "RGBA"), ("PNG", "P"), ("BMP", "L"), ("TIFF", "L"))
    ]
    return Target("pictures-dataset", seeds, read, of_rest, ("000", "dataset fuzzed"), folder)


def place(path: Path, data: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def of_rest(data: bytes, random: Random, others: object = ()) -> bytes:
    """Edit what stands behind the five letters of the place."""
    return data[:5] + either(of_png, of_tiff, of_bytes)(data[5:], random, ())


TARGETS: dict[str, Callable[[], Target]] = {
    "pictures-png": partial(decoded, "pictures-png", ".png", PNG, either(of_png, of_png, of_bytes)),
    "pictures-tiff": partial(decoded, "pictures-tiff", ".tif", TIFF, either(of_tiff, of_tiff, of_bytes)),
    "pictures-jpeg": partial(decoded, "pictures-jpeg", ".jpg", JPEG, of_bytes),
    "pictures-bmp-webp": partial(decoded, "pictures-bmp-webp", ".bmp", OTHERS, of_bytes),
    "pictures-foreign": partial(decoded, "pictures-foreign", ".png", FOREIGN, of_bytes),
    "pictures-dataset": verified,
}
