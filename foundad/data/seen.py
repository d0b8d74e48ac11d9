"""Collects oddities of pictures and masks while they are verified, and makes lines about them; they are not errors.

Oddities are 16-bit pictures that use only low values, masks that cover more than half of a picture or hold more than
two values, and defects too small for an evaluation size. ``data check`` prints the lines; no number depends on them.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foundad.data import images
from foundad.data.images import WIDE_GREY, decode
from foundad.data.manifest import Row
from foundad.data.masks import mask_array, mask_files, resize_mask, union

Seen = dict[str, Any]  # facts of one image, kept as JSON
SIZES = (224, 256, 512)  # evaluation sizes at which data check looks for defects that vanish
MOST = 0.5  # share of a picture above which a mask may be inverted
CLASSES = 32  # grey values up to this one are class indices, not shades
BITS = (9, 10, 11, 12, 13, 14, 15)
NAMED = 3


def seen_in_picture(image: Image.Image) -> Seen:
    """The highest value of a 16-bit picture; nothing for other pictures."""
    return {"highest": int(np.asarray(image).max())} if image.mode in WIDE_GREY else {}


def read_mask(path: Path, threshold: int, max_pixels: int) -> tuple[np.ndarray, str, Seen]:
    """The mask [H,W] uint8 at ``path``, its hash, and facts seen in it.

    Raises:
        UserError: it cannot be read.
    """
    masks, hashes, levels, shades = [], [], 0, False
    for part in mask_files(path):
        data = images.read_bytes(part)
        image = decode(data, part, max_pixels)
        masks.append(mask_array(image, threshold))
        hashes.append((part.name, hashlib.sha256(data).hexdigest()))
        if image.mode in ("L", "RGB"):
            values = np.flatnonzero(np.bincount(np.asarray(image).reshape(-1), minlength=256))
            levels = max(levels, len(values))
            shades |= len(values) > 2 and int(values.max()) > CLASSES
    mask = union(masks, path)
    digest = hashes[0][1] if not path.is_dir() else _hash_of(hashes)
    seen: Seen = {"cover": round(float(mask.mean()), 4), "levels": levels if shades and not threshold else 0}
    seen["vanishes"] = [size for size in SIZES if not resize_mask(mask, size).any()]
    return mask, digest, seen


def _hash_of(parts: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256(
        "".join(f"{name}\0{digest}\n" for name, digest in parts).encode("utf-8", "surrogateescape")
    ).hexdigest()


def remarks(rows: Iterable[Row], seen: Mapping[str, Seen]) -> list[str]:
    """Lines about oddities among the facts ``seen`` in the images of ``rows``."""
    rows = list(rows)
    facts = {row.image_id: seen.get(row.image_id, {}) for row in rows}

    def named(chosen: Callable[[Seen], Any], mask: bool = True) -> tuple[int, str]:
        found = [(row.mask_path if mask else row.image_path) or "" for row in rows if chosen(facts[row.image_id])]
        return len(found), ", ".join(found[:NAMED]) + (", ..." if len(found) > NAMED else "")

    lines = []
    highest = max((fact["highest"] for fact in facts.values() if "highest" in fact), default=0)
    bits = next((bits for bits in BITS if highest < 1 << bits), None) if highest > 255 else None
    if bits is not None:
        count, names = named(lambda fact: "highest" in fact, mask=False)
        lines.append(
            f"{count} 16-bit pictures have no value above {highest}, hence hold {bits} bits at most: they are read as if "
            f"white were 65535 and look dark; if that is wrong, multiply their values by {1 << (16 - bits)} ({names})"
        )
    count, names = named(lambda fact: fact.get("cover", 0) > MOST)
    if count:
        most = max(fact.get("cover", 0) for fact in facts.values())
        lines.append(
            f"{count} masks cover more than half of their picture (up to {most:.0%}): white means defect; invert them if "
            f"white means normal ({names})"
        )
    count, names = named(lambda fact: fact.get("levels", 0) > 2)
    if count:
        levels = max(fact.get("levels", 0) for fact in facts.values())
        lines.append(
            f"{count} masks hold more than two values (up to {levels}), and every value above 0 means defect: if compression "
            f"or smoothing made them, set the dataset's key mask_threshold: 127 ({names})"
        )
    for size in SIZES:
        count, names = named(lambda fact, size=size: size in fact.get("vanishes", []))  # type: ignore[misc]
        if count:
            total = sum(row.label for row in rows)
            lines.append(
                f"{count} of {total} defects have no pixel at {size} x {size}: pixel metrics of encoders of that size do "
                f"not count them ({names})"
            )
    return lines


def without_normal(rows: Iterable[Row]) -> list[str]:
    """A line for every category that has defective test images and no normal ones."""
    rows = list(rows)
    labels = {(row.category, row.label) for row in rows if row.split == "test"}
    missing = sorted({category for category, _ in labels if (category, 0) not in labels})
    return [f"{category} has no normal test image, hence no ranking metrics" for category in missing]
