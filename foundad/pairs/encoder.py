"""Stage ``bank``: tokens of the drawn images, unchanged and as pairs of clean and synthetic images.

Reads a draw, encodes its images once, and writes one safetensors file per array of the encoder, which all methods and
projector variants with the same ``bank`` section share. Pictures depend only on dataset, shots and seed, so that all
encoders see the same ones. The stage ``fit`` makes its pairs here as well, if a method wants fresh ones at every step.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
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
from foundad.paths import PATCH, Array
from foundad.sealed import Seal, key_of, write_tensors

Named = dict[str, np.ndarray]  # name of an array of the encoder -> one row per picture, float16


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

    def normal(self, batch_size: int, query: str = "", names: Sequence[str] = (PATCH,)) -> Iterator[Named]:
        """The arrays ``names``, batch by batch: of the unchanged drawn images, then of their support views.

        ``query`` is the query view of all of them (empty: none).
        """
        for view in support_views(self.settings):
            for start in range(0, len(self.images), batch_size):
                pixels = [to_input(view(image), self.input) for image in self.images[start : start + batch_size]]
                images = seen_as(self.encoder.normalise(np.stack(pixels)), query)
                yield _stored(self.encoder.in_memory(images, names))

    def inside_normal(self) -> np.ndarray | None:
        """Which tokens of :meth:`normal` are not padding, [S,N] bool; None if none is padding.

        Without a query view: support views keep a picture's frame, and a query view moves this mask like the picture.
        """
        sizes = [image.size for image in self.images] * self.views
        return any_padding(patches_inside(windows(self.input, sizes), self.input.grid))

    def pairs(
        self, sources: Sequence[int], numbers: Sequence[int], damaged: Sequence[bool]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Clean and input patch tokens, [B,N,D] float16 each, of augmented images, and which of them are not padding.

        Arguments and last result as in :meth:`named_pairs`.
        """
        clean, inputs, inside = self.named_pairs(sources, numbers, damaged)
        return clean[PATCH], inputs[PATCH], inside

    def named_pairs(
        self,
        sources: Sequence[int],
        numbers: Sequence[int],
        damaged: Sequence[bool],
        query: str = "",
        names: Sequence[str] = (PATCH,),
    ) -> tuple[Named, Named, np.ndarray | None]:
        """The arrays ``names`` of clean pictures and of inputs, and which patches are not padding.

        Args:
            sources: index of the drawn image of each pair.
            numbers: number of each pair, which seeds the pair's random numbers.
            damaged: which inputs show a synthetic anomaly; the others are the clean pictures.
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
            clean = self._encoded(images, names)
            return clean, clean, inside
        pasted, _ = self.cut_paste(
            images[rows],
            [generators[row] for row in rows],
            [self.draw.categories[sources[row]] for row in rows],
            [picture_pixels(self.input, *pictures[row].size) for row in rows],
        )
        # Clean and synthetic images share one encoder call, and no image is encoded twice.
        clean, inputs = {}, {}
        for name, tokens in self._encoded(torch.cat([images, pasted]), names).items():
            clean[name], inputs[name] = tokens[: len(images)], tokens[: len(images)].copy()
            inputs[name][rows] = tokens[len(images) :]
        return clean, inputs, inside

    def _encoded(self, images: torch.Tensor, names: Sequence[str]) -> Named:
        """The arrays ``names`` of normalised images on the CPU."""
        return _stored(self.encoder.in_memory(images.to(self.encoder.device), names))


def left_by_another(array: Array) -> bool:
    """Whether the job of the patch tokens has made the bank of ``array``, which then gets its final name."""
    left = _beside(array)
    found = key_of(left) == array.key
    if found:
        os.replace(left, array.path)
    return found


def _beside(array: Array) -> Path:
    """Where the job of the patch tokens leaves the bank of another array."""
    return array.path.with_name(f".{array.path.stem}.left{array.path.suffix}")


def build_bank(maker: PairEncoder, arrays: Sequence[Array]) -> None:
    """Write what :func:`encode_bank` gives: the first of ``arrays``, and the others for the jobs that make them
    (:func:`left_by_another`).

    Raises:
        UserError: a token is not finite.
    """
    own, *others = arrays
    wanted = [own, *(other for other in others if key_of(other.path) != other.key)]
    found, facts = encode_bank(maker, [array.name for array in wanted])
    for array in wanted:
        path = array.path if array is own else _beside(array)
        write_tensors(path, Seal("bank", array.key, facts), found[array.name])


def encode_bank(
    maker: PairEncoder, names: Sequence[str] = (PATCH,)
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Encode the drawn images and the pairs that the bank's settings ask for.

    Returns:
        The contents of the file of each of the arrays ``names``, and the facts of all. A file of patch tokens holds those
        of the drawn images (``normal``) and of pairs (``clean``, ``synthetic``); a file of another array holds the first
        two. :meth:`foundad.detection.bank.BankTokens.of_arrays` makes a bank of them.

    Raises:
        UserError: a token is not finite.
    """
    draw, encoder = maker.draw, maker.input
    # Pair i shows drawn image i modulo S, so that the pairs are spread evenly over images and categories.
    sources = [pair % len(maker.images) for pair in range(maker.settings.pairs)]
    found = _encoded(maker, sources, names)
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
    pictures = {"normal": draw.image_paths * maker.views, "pairs": [draw.image_paths[source] for source in sources]}
    for arrays in found.values():
        for name, tokens in arrays.items():
            if tokens.dtype == np.float16:
                require_finite(tokens, encoder, pictures["normal" if name.startswith("normal") else "pairs"])
    return found, facts


def _encoded(maker: PairEncoder, sources: list[int], names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Array of the encoder -> contents of its file: rows of float16, and which patches are not padding, [.,N] bool."""
    settings = maker.settings
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
    total = (len(maker.images) * maker.views + settings.pairs) * (1 + len(settings.queries))
    with tqdm(total=total, desc="bank: images", disable=None, file=sys.stderr) as progress:
        for query in ("", *settings.queries):
            normal: list[Named] = []
            for tokens in maker.normal(maker.batch_size, query, names):
                normal.append(tokens)
                progress.update(_count(tokens))
            for name in names:
                found[name][f"normal@{query}" if query else "normal"] = np.concatenate([part[name] for part in normal])
        for query in ("", *settings.queries):
            inside = _encode_pairs(maker, sources, query, found, progress)
            if inside is not None and not query and PATCH in found:
                found[PATCH]["inside"] = inside
    shown = maker.inside_normal()
    if shown is not None and PATCH in found:
        found[PATCH]["inside_normal"] = shown
    return found


def _encode_pairs(
    maker: PairEncoder, sources: list[int], query: str, found: Mapping[str, dict[str, np.ndarray]], progress: tqdm
) -> np.ndarray | None:
    """Add the pictures of all pairs under ``query`` to ``found``; returns which patches are not padding, [P,N] bool.

    Unchanged pictures are encoded with their anomalies whatever is kept of them, so that batches are the same, and bits.
    """
    pairs = maker.settings.pairs
    damaged = not query
    clean: Named = {}
    synthetic: Named = {}
    for name, arrays in found.items():
        shape = (pairs, *arrays["normal"].shape[1:])
        clean[name] = arrays[f"clean@{query}" if query else "clean"] = np.empty(shape, np.float16)
        if damaged and name == PATCH:
            synthetic[name] = arrays["synthetic"] = np.empty(shape, np.float16)
    size = max(1, maker.batch_size // 2) if damaged else maker.batch_size
    inside: list[np.ndarray] = []
    for start in range(0, pairs, size):
        rows = slice(start, min(start + size, pairs))
        numbers = range(start, rows.stop)
        seen, inputs, shown = maker.named_pairs(sources[rows], numbers, [damaged] * len(numbers), query, tuple(found))
        for name in found:
            clean[name][rows] = seen[name]
        for name, tokens in synthetic.items():
            tokens[rows] = inputs[name]
        if shown is not None:
            inside.append(shown)
        progress.update(len(numbers))
    return np.concatenate(inside) if inside else None


def _count(tokens: Named) -> int:
    return len(next(iter(tokens.values())))


def _stored(found: Mapping[str, torch.Tensor]) -> Named:
    """Arrays in float16, as banks and features store them. Fresh pairs are rounded too, so both kinds are equal."""
    return {name: array.half().cpu().numpy() for name, array in found.items()}


def _generator(draw: Draw, pair: int) -> np.random.Generator:
    """The pair's own generator: neither batch size nor the number of pairs changes its picture."""
    return generator_of(f"{draw.dataset}/{draw.shots}/{draw.seed}/{pair}")
