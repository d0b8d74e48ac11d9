"""Stage ``features``: patch tokens of every test image, encoded once for all shots, seeds and methods.

Reads the manifest's test images, writes one float16 array [n,N,D] (rows in the manifest's order) and a JSON beside it
that says how it was made. Memory use is a few batches, whatever the number of images. It does not depend on any method.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from foundad.config.base import dump
from foundad.config.encoder import Encoder
from foundad.data.images import load_image
from foundad.data.manifest import Manifest
from foundad.data.views import seen_as
from foundad.device import ON_CPU, Compute
from foundad.encoders import build_encoder, modules_of
from foundad.encoders.base import FrozenEncoder, require_finite, to_input
from foundad.provenance import config_hash, source_hash, versions
from foundad.resumable import ResumableArray
from foundad.sealed import Seal, write_json


def extract_features(
    manifest: Manifest,
    settings: Encoder,
    out: Path,
    compute: Compute = ON_CPU,
    query: str = "",
    key: str = "",
) -> None:
    """Encode every test image of ``manifest`` and write ``out`` (.npy) and its twin (.json).

    ``query`` is the query view of the images (empty: unchanged images), and ``key`` is the job's key. A job resumes
    where a killed one stopped, as long as nothing changed that its tokens depend on.

    Raises:
        UserError: an image or the encoder's weights cannot be read, or tokens are not finite.
    """
    encoder = build_encoder(settings, compute)
    shape = (len(manifest.test), settings.grid**2, settings.channels)
    unfinished = config_hash(
        source_hash(("foundad.encoders.extraction", *modules_of(settings))),
        dump(settings),
        [compute.precision, compute.compiled, compute.batch_size, encoder.device.type, query, versions(), key],
        [(row.image_path, row.sha256) for row in manifest.test],
    )
    with ResumableArray(out, shape, unfinished) as features:
        waiting = [manifest.root / row.image_path for row in manifest.test[features.rows :]]
        with tqdm(
            total=shape[0], initial=features.rows, desc=f"{settings.id}: images", disable=None, file=sys.stderr
        ) as progress:
            for tokens in encode_files(encoder, waiting, compute.batch_size, compute.threads, query):
                require_finite(tokens, settings, [row.image_path for row in manifest.test[features.rows :]])
                features.append(tokens)
                progress.update(len(tokens))
        facts = {
            "dataset": manifest.dataset,
            "encoder": settings.id,
            "query": query,
            "shape": shape,
            "dtype": "float16",
            "precision": compute.precision,
            "compiled": compute.compiled,
            "batch_limit": encoder.batch_limit,
            "image_ids": [row.image_id for row in manifest.test],
            "checksums": features.checksums,
        }
        write_json(out.with_suffix(".json"), Seal("features", key, facts))
        features.finish()


def encode_files(
    encoder: FrozenEncoder,
    images: Sequence[Any],
    batch_size: int,
    threads: int,
    query: str = "",
    load: Callable[[Any], Image.Image] | None = None,
) -> Iterator[np.ndarray]:
    """Patch tokens [b,N,D] float16 of image files, batch by batch and in order.

    ``load`` makes an RGB picture of each of ``images``; by default (None) they are paths. On a CPU every thread decodes and
    encodes whole batches on one core, so that no core waits for another between layers and the tokens do not depend on
    the number of threads. On a GPU the threads only decode, ahead of the GPU.
    """
    settings, load = encoder.settings, load or load_image

    def read(batch: Sequence[Any]) -> np.ndarray:
        return np.stack([to_input(load(image), settings) for image in batch])

    size = encoder.call_size(batch_size)
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    if encoder.device.type != "cpu":
        yield from _encode_on_gpu(encoder, in_order(read, batches, threads), query)
        return
    before = torch.get_num_threads()
    try:
        yield from in_order(lambda batch: encode(encoder, read(batch), query), batches, threads, _compute_on_one_core)
    finally:
        torch.set_num_threads(before)


def in_order(
    work: Callable[[Any], np.ndarray],
    tasks: Sequence[Any],
    threads: int,
    prepare: Callable[[], None] | None = None,
) -> Iterator[np.ndarray]:
    """Yield ``work(task)`` of every task, in order, computed by ``threads`` threads at most ``threads`` tasks ahead."""
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        running: deque[Future[np.ndarray]] = deque()
        try:
            for task in tasks:
                running.append(pool.submit(work, task))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _compute_on_one_core() -> None:
    torch.set_num_threads(1)  # for the calling thread, and for threads that begin later


def _encode_on_gpu(encoder: FrozenEncoder, batches: Iterable[np.ndarray], query: str) -> Iterator[np.ndarray]:
    """Tokens of decoded batches; while one is encoded, the next is copied to the GPU and the tokens before it back."""
    cuda = encoder.device.type == "cuda"
    copies = torch.cuda.Stream(encoder.device) if cuda else None
    waiting: deque[tuple[torch.Tensor, torch.cuda.Event | None]] = deque()
    for pixels in batches:
        if copies is None:
            images = encoder.normalise(pixels)
        else:
            compute = torch.cuda.current_stream(encoder.device)
            with torch.cuda.stream(copies):
                images = encoder.normalise(pixels)
            compute.wait_stream(copies)
            images.record_stream(compute)  # else its memory could be reused while the encoder reads it
        tokens = encoder.in_memory(seen_as(images, query)).half()
        if copies is None:
            waiting.append((tokens, None))
        else:
            on_host = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
            on_host.copy_(tokens, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
            waiting.append((on_host, done))
        if len(waiting) > 1:
            yield _on_host(*waiting.popleft())
    while waiting:
        yield _on_host(*waiting.popleft())


def _on_host(tokens: torch.Tensor, copied: "torch.cuda.Event | None") -> np.ndarray:
    if copied is not None:
        copied.synchronize()
    return tokens.cpu().numpy()


def encode(encoder: FrozenEncoder, pixels: np.ndarray, query: str = "") -> np.ndarray:
    """Patch tokens [B,N,D] float16 of uint8 RGB images [B,S,S,3], under the query view ``query`` (empty: unchanged)."""
    return encoder.in_memory(seen_as(encoder.normalise(pixels), query)).half().cpu().numpy()
