"""Stage ``bank``: patch tokens of the drawn images, as they are and as pairs of clean and synthetic images.

Reads a draw, encodes its images once, and writes one safetensors file that all methods and projector variants with the
same ``bank`` section share. Pictures depend on dataset, shots and seed alone, so that all encoders see the same ones.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tqdm import tqdm

from foundad.augmentation import augment
from foundad.config import Bank, Encoder
from foundad.data.draws import Draw
from foundad.data.images import load_image, resize_square
from foundad.detector import to_metadata
from foundad.encoders import build_encoder
from foundad.files import write_beside
from foundad.synthesis import CutPaste


def build_bank(
    draw: Draw,
    root: Path,
    settings: Bank,
    encoder_settings: Encoder,
    out: Path,
    batch_size: int,
    device: str,
    threads: int,
) -> None:
    """Encode the images of ``draw`` below ``root`` and ``settings.pairs`` pairs made of them; write ``out``.

    Raises:
        UserError: an image cannot be read, or the encoder's weights cannot.
    """
    torch.set_num_threads(threads)
    encoder = build_encoder(encoder_settings, device)
    size, interpolation = encoder_settings.image_size, encoder_settings.interpolation
    originals = [load_image(root / path) for path in draw.image_paths]
    cut_paste = CutPaste(settings.synthesis, encoder_settings.mean, encoder_settings.std)

    # Pair i shows drawn image i modulo S, so that the pairs are spread evenly over images and categories.
    sources = [pair % len(originals) for pair in range(settings.pairs)]
    categories = [draw.categories[source] for source in sources]
    normal, clean, synthetic = [], [], []
    with tqdm(total=len(originals) + settings.pairs, desc="bank: images", disable=None, file=sys.stderr) as progress:
        for start in range(0, len(originals), batch_size):
            pixels = [resize_square(image, size, interpolation) for image in originals[start : start + batch_size]]
            normal.append(encoder(encoder.normalise(np.stack(pixels))).half().cpu())
            progress.update(len(pixels))
        half = max(1, batch_size // 2)
        for start in range(0, settings.pairs, half):
            numbers = range(start, min(start + half, settings.pairs))
            generators = [_generator(draw, pair) for pair in numbers]
            pictures = [
                augment(originals[sources[pair]], settings.augmentation, generator, size)
                for pair, generator in zip(numbers, generators, strict=True)
            ]
            images = encoder.normalise(np.stack([resize_square(p, size, interpolation) for p in pictures]))
            damaged, _ = cut_paste(images.cpu(), generators)
            # Clean and synthetic images share one encoder call.
            tokens = encoder(torch.cat([images, damaged.to(images.device)])).half().cpu()
            clean.append(tokens[: len(numbers)])
            synthetic.append(tokens[len(numbers) :])
            progress.update(len(numbers))
    empty = torch.empty(0, encoder_settings.grid**2, encoder_settings.channels, dtype=torch.float16)
    arrays = {
        "normal": torch.cat(normal).numpy(),
        "clean": torch.cat(clean or [empty]).numpy(),
        "synthetic": torch.cat(synthetic or [empty]).numpy(),
    }
    facts = {
        "dataset": draw.dataset,
        "encoder": encoder_settings.id,
        "draw": draw.hash,
        "normal_categories": draw.categories,
        "pair_categories": categories,
    }
    with write_beside(out) as temporary:
        save_file(arrays, temporary, metadata=to_metadata(facts))


def _generator(draw: Draw, pair: int) -> np.random.Generator:
    """The pair's own generator: neither batch size nor the number of pairs changes its picture."""
    name = f"{draw.dataset}/{draw.shots}/{draw.seed}/{pair}".encode()
    return np.random.default_rng(np.frombuffer(hashlib.sha256(name).digest(), np.uint32))
