"""Stage ``bank``: patch tokens of the drawn images, unchanged and as pairs of clean and synthetic images.

Reads a draw, encodes its images once, and writes one safetensors file that all methods and projector variants with the
same ``bank`` section share. Pictures depend only on dataset, shots and seed, so that all encoders see the same ones.
The stage ``fit`` makes its pairs here as well, if a method wants fresh ones at every step.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from foundad.config.bank import Bank
from foundad.config.encoder import Encoder
from foundad.data.draws import Draw
from foundad.data.frame import patches_inside, picture_pixels, windows
from foundad.data.images import load_image
from foundad.data.patches import any_padding
from foundad.data.views import seen_as, support_views
from foundad.device import ON_CPU, Compute
from foundad.encoders import build_encoder
from foundad.encoders.base import require_finite, to_input
from foundad.generators import generator_of
from foundad.pairs.augmentation import augment
from foundad.pairs.cutpaste import CutPaste
from foundad.sealed import Seal, write_tensors


def drawn_images(draw: Draw, root: Path) -> list[Image.Image]:
    """The images of ``draw`` below ``root`` as RGB; UserError if one cannot be read."""
    return [load_image(root / path) for path in draw.image_paths]


class PairEncoder:
    """Holds the drawn images and the encoder in memory; makes and encodes pairs of the images.

    Args:
        images: RGB, one for each of ``draw``, see :func:`drawn_images`.

    Raises:
        UserError: the encoder's weights cannot be read.
    """

    def __init__(
        self,
        draw: Draw,
        images: Sequence[Image.Image],
        settings: Bank,
        encoder: Encoder,
        compute: Compute = ON_CPU,
    ) -> None:
        self.draw = draw
        self.settings = settings
        self.encoder = build_encoder(encoder, compute)
        self.input = encoder
        self.batch_size = compute.batch_size
        self.images = list(images)
        self.cut_paste = CutPaste(settings.synthesis, encoder.mean, encoder.std)
        self.views = len(support_views(settings))

    def normal(self, batch_size: int, query: str = "") -> Iterator[np.ndarray]:
        """Patch tokens [b,N,D] float16, batch by batch: of the unchanged drawn images, then of their support views.

        ``query`` is the query view of all of them (empty: none).
        """
        for view in support_views(self.settings):
            for start in range(0, len(self.images), batch_size):
                pixels = [to_input(view(image), self.input) for image in self.images[start : start + batch_size]]
                images = seen_as(self.encoder.normalise(np.stack(pixels)), query)
                yield _stored(self.encoder.in_memory(images))

    def inside_normal(self) -> np.ndarray | None:
        """Which tokens of :meth:`normal` are not padding, [S,N] bool; None if none is padding.

        Without a query view: support views keep a picture's frame, and a query view moves this mask like the picture.
        """
        sizes = [image.size for image in self.images] * self.views
        return any_padding(patches_inside(windows(self.input, sizes), self.input.grid))

    def pairs(
        self, sources: Sequence[int], numbers: Sequence[int], damaged: Sequence[bool], query: str = ""
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Clean and input tokens, [B,N,D] float16 each, of augmented images, and which of them are not padding.

        Args:
            sources: index of the drawn image of each pair.
            numbers: number of each pair, which seeds the pair's random numbers.
            damaged: which inputs show a synthetic anomaly; the others are the clean tokens.
            query: the query view of the clean pictures (empty: none).

        Returns:
            clean, inputs, and [B,N] bool as :func:`foundad.data.frame.patches_inside` gives it.
        """
        generators = [_generator(self.draw, number) for number in numbers]
        pictures = [
            augment(self.images[source], self.settings.augmentation, generator, self.input.image_size)
            for source, generator in zip(sources, generators, strict=True)
        ]
        pixels = np.stack([to_input(picture, self.input) for picture in pictures])
        # On the CPU, where anomalies are pasted: pictures do not depend on the device, and a GPU is not waited for.
        images = seen_as(self.encoder.normalise_on_cpu(pixels), query)
        inside = patches_inside(windows(self.input, [picture.size for picture in pictures]), self.input.grid)
        rows = np.flatnonzero(damaged).tolist()
        if not rows:
            clean = self._encoded(images)
            return clean, clean, inside
        pasted, _ = self.cut_paste(
            images[rows],
            [generators[row] for row in rows],
            [self.draw.categories[sources[row]] for row in rows],
            [picture_pixels(self.input, *pictures[row].size) for row in rows],
        )
        # Clean and synthetic images share one encoder call, and no image is encoded twice.
        tokens = self._encoded(torch.cat([images, pasted]))
        inputs = tokens[: len(images)].copy()
        inputs[rows] = tokens[len(images) :]
        return tokens[: len(images)], inputs, inside

    def _encoded(self, images: torch.Tensor) -> np.ndarray:
        """Patch tokens [B,N,D] float16 of normalised images on the CPU."""
        return _stored(self.encoder.in_memory(images.to(self.encoder.device)))


def build_bank(maker: PairEncoder, out: Path, key: str = "") -> None:
    """Write what :func:`encode_bank` gives into ``out``."""
    arrays, facts = encode_bank(maker)
    write_tensors(out, Seal("bank", key, facts), arrays)


def encode_bank(maker: PairEncoder) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Encode the drawn images and the pairs that the bank's settings ask for.

    Returns:
        The arrays and the facts of a bank, from which :meth:`foundad.detection.bank.BankTokens.of_arrays` makes one.

    Raises:
        UserError: a token is not finite.
    """
    draw, encoder = maker.draw, maker.input
    # Pair i shows drawn image i modulo S, so that the pairs are spread evenly over images and categories.
    sources = [pair % len(maker.images) for pair in range(maker.settings.pairs)]
    arrays = _encoded(maker, sources)
    facts = {
        "dataset": draw.dataset,
        "shots": draw.shots,
        "seed": draw.seed,
        "encoder": encoder.id,
        "draw": draw.hash,
        "normal_categories": draw.categories * maker.views,
        "normal_ids": draw.image_ids * maker.views,
        "queries": maker.settings.queries,
        "pair_categories": [draw.categories[source] for source in sources],
        "pair_ids": [draw.image_ids[source] for source in sources],
        "batch_limit": maker.encoder.batch_limit,
    }
    for name, array in arrays.items():
        pictures = draw.image_paths * maker.views
        if not name.startswith("normal"):
            pictures = [draw.image_paths[source] for source in sources]
        if array.dtype == np.float16:
            require_finite(array, encoder, pictures)
    return arrays, facts


def _encoded(maker: PairEncoder, sources: list[int]) -> dict[str, np.ndarray]:
    """Tokens [.,N,D] float16 of the drawn images and of pairs of ``sources``, and which are not padding, [.,N] bool."""
    settings, batch_size = maker.settings, maker.batch_size
    clean = np.empty((settings.pairs, maker.input.grid**2, maker.input.channels), np.float16)
    synthetic = np.empty_like(clean)
    arrays: dict[str, np.ndarray] = {}
    inside: list[np.ndarray] = []
    half = max(1, batch_size // 2)
    total = (len(maker.images) * maker.views + settings.pairs) * (1 + len(settings.queries))
    with tqdm(total=total, desc="bank: images", disable=None, file=sys.stderr) as progress:
        for query in ("", *settings.queries):
            normal = []
            for tokens in maker.normal(batch_size, query):
                normal.append(tokens)
                progress.update(len(tokens))
            arrays[f"normal@{query}" if query else "normal"] = np.concatenate(normal)
        for query in settings.queries:
            seen = arrays[f"clean@{query}"] = np.empty_like(clean)
            for start in range(0, settings.pairs, batch_size):
                rows = slice(start, min(start + batch_size, settings.pairs))
                count = rows.stop - start
                seen[rows], _, _ = maker.pairs(sources[rows], range(start, rows.stop), [False] * count, query)
                progress.update(count)
        for start in range(0, settings.pairs, half):
            numbers = range(start, min(start + half, settings.pairs))
            rows = slice(start, numbers.stop)
            clean[rows], synthetic[rows], shown = maker.pairs(sources[rows], numbers, [True] * len(numbers))
            if shown is not None:
                inside.append(shown)
            progress.update(len(numbers))
    arrays |= {"clean": clean, "synthetic": synthetic}
    masks = {"inside": np.concatenate(inside) if inside else None, "inside_normal": maker.inside_normal()}
    return arrays | {name: mask for name, mask in masks.items() if mask is not None}


def _stored(tokens: torch.Tensor) -> np.ndarray:
    """Tokens in float16, as banks and features store them. Fresh pairs are rounded too, so both kinds are equal."""
    return tokens.half().cpu().numpy()


def _generator(draw: Draw, pair: int) -> np.random.Generator:
    """The pair's own generator: neither batch size nor the number of pairs changes its picture."""
    return generator_of(f"{draw.dataset}/{draw.shots}/{draw.seed}/{pair}")
