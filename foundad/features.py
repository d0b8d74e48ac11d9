"""Stage ``features``: patch tokens of every test image, encoded once for all shots, seeds and methods.

Reads the manifest's test images, writes one float16 array [n,N,D] (rows in the manifest's order) and a JSON beside it
that says how it was made. It knows no method.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from foundad.config import Encoder, Precision
from foundad.data.frame import to_input
from foundad.data.images import load_image
from foundad.data.manifest import Manifest
from foundad.encoders import build_encoder
from foundad.encoders.base import FrozenEncoder
from foundad.files import write_beside, write_text


def extract_features(
    manifest: Manifest,
    root: Path,
    settings: Encoder,
    out: Path,
    batch_size: int,
    device: str,
    threads: int,
    precision: Precision = "float32",
) -> None:
    """Encode every test image of ``manifest`` below ``root`` and write ``out`` (.npy) and its twin (.json).

    Raises:
        UserError: an image cannot be read, or the encoder's weights cannot.
    """
    torch.set_num_threads(threads)
    encoder = build_encoder(settings, device, precision)
    images = [root / row.image_path for row in manifest.test]
    shape = (len(images), settings.grid**2, settings.channels)
    with write_beside(out) as temporary:
        with open(temporary, "wb") as file:
            # Streamed behind the header: memory stays one batch, whatever the number of images.
            header = {"descr": "<f2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            with tqdm(total=len(images), desc=f"{settings.id}: images", disable=None, file=sys.stderr) as progress:
                for tokens in encode_files(encoder, images, batch_size, threads):
                    file.write(np.ascontiguousarray(tokens).tobytes())
                    progress.update(len(tokens))
        facts = {
            "dataset": manifest.dataset,
            "encoder": settings.id,
            "shape": shape,
            "dtype": "float16",
            "precision": precision,
            "batch_limit": encoder.batch_limit,
            "image_ids": [row.image_id for row in manifest.test],
        }
        write_text(out.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")


def encode_files(encoder: FrozenEncoder, images: Sequence[Path], batch_size: int, threads: int) -> Iterator[np.ndarray]:
    """Patch tokens [b,N,D] float16 of image files, batch by batch; the next batch is decoded while one is encoded."""
    settings = encoder.settings
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]

    def read(paths: Sequence[Path]) -> np.ndarray:
        return np.stack([to_input(load_image(path), settings) for path in paths])

    with ThreadPoolExecutor(max_workers=threads) as pool:
        waiting = [pool.submit(read, batch) for batch in batches[:threads]]
        for number in range(len(batches)):
            pixels = waiting.pop(0).result()
            following = number + threads
            if following < len(batches):
                waiting.append(pool.submit(read, batches[following]))
            yield encode(encoder, pixels)


def encode(encoder: FrozenEncoder, pixels: np.ndarray) -> np.ndarray:
    """Patch tokens [B,N,D] float16 of uint8 RGB images [B,S,S,3]."""
    return encoder.in_memory(encoder.normalise(pixels)).half().cpu().numpy()
