"""Stage ``observe``: how embeddings and a trained projector's residual respond to a growing anomaly (paper Fig. 2).

Squares of 0 to 25 % of the picture are cut from elsewhere in it, colour-jittered, and pasted around one foreground
place of normal test images, which no projector has seen. In a padded picture the squares stay on the picture and keep
its aspect ratio, and the means leave out patches on padding. Distance of embeddings: L2 distance of the flattened patch
tokens to those of the clean picture, divided by sqrt(N D). The stage reads a manifest and a cell's model, and writes
one row per image and area.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from foundad.config.bank import Synthesis
from foundad.config.encoder import Encoder
from foundad.data.frame import patches_inside, picture_pixels, windows
from foundad.data.images import load_image
from foundad.data.manifest import Manifest, Row
from foundad.data.patches import any_padding
from foundad.data.views import seen_as
from foundad.detection.model import Model
from foundad.encoders import build_encoder
from foundad.encoders.base import to_input
from foundad.generators import generator_of
from foundad.key import BY_HAND, Key
from foundad.pairs.cutpaste import CutPaste, colour_jitter
from foundad.pairs.foreground import foreground_mask
from foundad.paths import PATCH
from foundad.sealed import Seal, write_parquet

IMAGES = 5  # per category
AREAS = tuple(step / 40 for step in range(11))  # shares of the picture, 0 to 0.25
SCHEMA = pa.schema(
    [
        ("category", pa.string()),
        ("image_id", pa.string()),
        ("area", pa.float64()),
        ("distance", pa.float64()),
        ("magnitude", pa.float64()),
        ("residual", pa.float64()),
        ("image_score", pa.float64()),
    ]
)


def observe(
    manifest: Manifest,
    settings: Encoder,
    model: Model,
    out: Path,
    key: Key = BY_HAND,
) -> None:
    """Write ``out``: area (share of the picture), distance, magnitude (root mean square of the clean tokens), residual
    (mean over all patches of the picture) and image score.

    Raises:
        UserError: an image or the encoder's weights cannot be read.
    """
    encoder = build_encoder(settings, model.compute)
    rows = []
    for row in shown(manifest):
        pixels = to_input(load_image(manifest.root / row.image_path), settings)
        clean = encoder.normalise(pixels[None].copy())[0].cpu()
        # Seeded by the image alone, so that all encoders and projectors see the same squares.
        generator = generator_of(f"{manifest.dataset}/{row.image_id}")
        frame = picture_pixels(settings, row.width, row.height)
        pictures = [clean.clone() for _ in AREAS]
        for picture, squared in zip(pictures, growing_squares(clean[:, *frame], settings, generator), strict=True):
            picture[:, *frame] = squared
        damaged = torch.stack(pictures)
        seen = {view: seen_as(damaged.to(encoder.mean.device), view) for view in model.views}
        viewed = {
            view: {name: array.half().cpu().numpy() for name, array in encoder.in_memory(images, model.arrays).items()}
            for view, images in seen.items()
        }
        tokens = viewed[""][PATCH]
        inside = patches_inside(windows(settings, [(row.width, row.height)] * len(tokens)), settings.grid)
        ids = [row.image_id] * len(tokens)
        patch_scores, image_scores = model.score(viewed, row.category, inside, ids)
        # All pictures have the same frame, so one row serves for all.
        padded = any_padding(inside)
        kept = slice(None) if padded is None else padded[0]
        values = tokens[:, kept].astype(np.float64)
        distances = np.sqrt(np.mean((values - values[:1]) ** 2, axis=(1, 2)))
        magnitude = math.sqrt(float(np.mean(values[0] ** 2)))
        columns = (distances, patch_scores[:, kept].mean(axis=1, dtype=np.float64), image_scores)
        for area, distance, residual, score in zip(pasted_areas(*clean[0, *frame].shape), *columns, strict=True):
            entry = (row.category, row.image_id, area, float(distance), magnitude, float(residual), float(score))
            rows.append(dict(zip(SCHEMA.names, entry, strict=True)))
    write_parquet(out, Seal("observation", key.own), pa.Table.from_pylist(rows, schema=SCHEMA))


def shown(manifest: Manifest) -> list[Row]:
    """The first :data:`IMAGES` normal test images of every category, ordered by id."""
    normal = sorted((row for row in manifest.test if not row.label), key=lambda row: (row.category, row.image_id))
    found: dict[str, list[Row]] = {}
    for row in normal:
        found.setdefault(row.category, []).append(row)
    return [row for rows in found.values() for row in rows[:IMAGES]]


def sides(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width in pixels of the squares on a picture of ``height`` x ``width``, with its aspect ratio."""
    return [(round(math.sqrt(area) * height), round(math.sqrt(area) * width)) for area in AREAS]


def pasted_areas(height: int, width: int) -> list[float]:
    """Shares of the picture that the squares cover after rounding to whole pixels."""
    return [high * wide / (height * width) for high, wide in sides(height, width)]


def growing_squares(image: Tensor, settings: Encoder, generator: np.random.Generator) -> Iterator[Tensor]:
    """The normalised ``image`` [3,H,W] with ever larger squares, one per area of :data:`AREAS`.

    The squares are pasted around one centre on the foreground and cut from around another centre. Colours are jittered
    as in CutPaste, equally for all squares of an image.
    """
    cut_paste = CutPaste(Synthesis(), settings.mean, settings.std)
    unit = (image * cut_paste.std + cut_paste.mean).clamp(0, 1)
    size = (image.shape[1], image.shape[2])
    pixels = size[0] * size[1]
    places = np.flatnonzero(foreground_mask(unit.permute(1, 2, 0).numpy()))
    middle = size[0] // 2 * size[1]
    target = divmod(int(places[generator.integers(len(places))]) if len(places) else middle, size[1])
    source = divmod(int(generator.integers(pixels)), size[1])
    jitter = cut_paste.jitter(generator)
    for high, wide in sides(*size):
        damaged = image.clone()
        if high and wide:
            (top, left), (there, beside) = (_corner(centre, (high, wide), size) for centre in (target, source))
            piece = colour_jitter(unit[:, there : there + high, beside : beside + wide], jitter)
            damaged[:, top : top + high, left : left + wide] = (piece - cut_paste.mean) / cut_paste.std
        yield damaged


def _corner(centre: tuple[int, int], square: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Top-left corner of a square around ``centre``, moved so that the square lies in the picture."""
    top, left = (
        min(max(0, place - side // 2), length - side) for place, side, length in zip(centre, square, size, strict=True)
    )
    return top, left
