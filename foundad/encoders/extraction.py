"""Stage ``features``: what an encoder gives of every test image, encoded once for all shots, seeds and methods.

Reads the manifest's test images, writes one float16 array (rows in the manifest's order: patch tokens [n,N,D] or class
tokens [n,C]) and a JSON beside it that says how it was made. Memory use is a few batches, whatever the number of images.
It does not depend on any method.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
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
from foundad.paths import PATCH, Array
from foundad.provenance import config_hash, source_hash, versions
from foundad.resumable import ResumableArray
from foundad.sealed import Seal, key_of, write_json

Named = dict[str, np.ndarray]


def extract_features(
    manifest: Manifest,
    settings: Encoder,
    arrays: Sequence[Array],
    compute: Compute = ON_CPU,
    query: str = "",
) -> None:
    """Encode every test image of ``manifest`` and write the first of ``arrays`` (.npy) and its twin (.json).

    The rows of the other arrays stay where a job that is killed leaves its own, so that the jobs of those arrays have
    nothing to encode. ``query`` is the query view of the images (empty: unchanged images). A job resumes where another
    one stopped, as long as nothing changed that the array depends on.

    Raises:
        UserError: an image or the encoder's weights cannot be read, or tokens are not finite.
    """
    own, *others = arrays
    wanted = [own, *(other for other in others if key_of(other.path.with_suffix(".json")) != other.key)]
    with ExitStack() as stack:
        opened = {
            array.name: stack.enter_context(_rows_of(array, manifest, settings, compute, query)) for array in wanted
        }
        whole = all(rows.rows == len(manifest.test) for rows in opened.values())
        encoder = None if whole else build_encoder(settings, compute)
        if encoder is not None:
            _append(opened, encoder, manifest, compute, query)
        rows = opened[own.name]
        facts = {
            "dataset": manifest.dataset,
            "encoder": settings.id,
            "query": query,
            "shape": rows.shape,
            "dtype": "float16",
            "precision": compute.precision,
            "compiled": compute.compiled,
            "batch_limit": encoder and encoder.batch_limit,
            "image_ids": [row.image_id for row in manifest.test],
            "checksums": rows.checksums,
        }
        write_json(own.path.with_suffix(".json"), Seal("features", own.key, facts))
        rows.finish()


def _append(
    opened: dict[str, ResumableArray], encoder: FrozenEncoder, manifest: Manifest, compute: Compute, query: str
) -> None:
    """Encode the images that one of the arrays still lacks, and append what each lacks."""
    names = [row.image_path for row in manifest.test]
    at = min(rows.rows for rows in opened.values())
    waiting = [manifest.root / name for name in names[at:]]
    title = f"{encoder.settings.id}: images"
    with tqdm(total=len(names), initial=at, desc=title, disable=None, file=sys.stderr) as progress:
        for found in encode_files(encoder, waiting, compute, query, tuple(opened)):
            for name, tokens in found.items():
                require_finite(tokens, encoder.settings, names[at:])
                opened[name].append(tokens[opened[name].rows - at :])
            done = min(len(tokens) for tokens in found.values())
            at += done
            progress.update(done)


def _rows_of(array: Array, manifest: Manifest, settings: Encoder, compute: Compute, query: str) -> ResumableArray:
    """The array on the disk, with the rows that an earlier job left under the same conditions."""
    conditions = config_hash(
        source_hash(("foundad.encoders.extraction", *modules_of(settings))),
        dump(settings),
        [compute.precision, compute.compiled, compute.batch_size, compute.device.partition(":")[0], query, versions()],
        [array.key, array.name],
        [(row.image_path, row.sha256) for row in manifest.test],
    )
    shape = (settings.grid**2, settings.channels) if array.name == PATCH else ()
    return ResumableArray(array.path, (len(manifest.test), *shape), conditions)


def encode_files(
    encoder: FrozenEncoder,
    images: Sequence[Any],
    compute: Compute,
    query: str = "",
    names: Sequence[str] = (PATCH,),
    load: Callable[[Any], Image.Image] | None = None,
) -> Iterator[Named]:
    """The arrays ``names`` of image files, each [b,...] float16, batch by batch and in order.

    ``compute`` says how many images a batch has on a GPU, and how many threads there are. ``load`` makes an RGB picture of
    each of ``images``; by default (None) they are paths. On a CPU every thread decodes and encodes whole batches on one
    core, so that no core waits for another between layers and the tokens do not depend on the number of threads. On a GPU
    the threads only decode, ahead of the GPU.
    """
    settings, load = encoder.settings, load or load_image

    def read(batch: Sequence[Any]) -> np.ndarray:
        return np.stack([to_input(load(image), settings) for image in batch])

    size, threads = encoder.call_size(compute.batch_size), compute.threads
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    if encoder.device.type != "cpu":
        yield from _encode_on_gpu(encoder, in_order(read, batches, threads), query, names)
        return
    before = torch.get_num_threads()
    try:
        yield from in_order(
            lambda batch: encode(encoder, read(batch), query, names), batches, threads, _compute_on_one_core
        )
    finally:
        torch.set_num_threads(before)


def in_order(
    work: Callable[[Any], Any],
    tasks: Sequence[Any],
    threads: int,
    prepare: Callable[[], None] | None = None,
) -> Iterator[Any]:
    """Yield ``work(task)`` of every task, in order, computed by ``threads`` threads at most ``threads`` tasks ahead."""
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        running: deque[Future[Any]] = deque()
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


def _encode_on_gpu(
    encoder: FrozenEncoder, batches: Iterable[np.ndarray], query: str, names: Sequence[str]
) -> Iterator[Named]:
    """Arrays of decoded batches; while one is encoded, the next is copied to the GPU and the arrays before it back."""
    cuda = encoder.device.type == "cuda"
    copies = torch.cuda.Stream(encoder.device) if cuda else None
    waiting: deque[tuple[dict[str, torch.Tensor], torch.cuda.Event | None]] = deque()
    for pixels in batches:
        if copies is None:
            images = encoder.normalise(pixels)
        else:
            compute = torch.cuda.current_stream(encoder.device)
            with torch.cuda.stream(copies):
                images = encoder.normalise(pixels)
            compute.wait_stream(copies)
            images.record_stream(compute)  # else its memory could be reused while the encoder reads it
        found = {name: array.half() for name, array in encoder.in_memory(seen_as(images, query), names).items()}
        if copies is None:
            waiting.append((found, None))
        else:
            waiting.append(_copied(found))
        if len(waiting) > 1:
            yield _on_host(*waiting.popleft())
    while waiting:
        yield _on_host(*waiting.popleft())


def _copied(found: dict[str, torch.Tensor]) -> "tuple[dict[str, torch.Tensor], torch.cuda.Event]":
    """Arrays in the host's memory once the event has come."""
    on_host = {name: torch.empty(array.shape, dtype=array.dtype, pin_memory=True) for name, array in found.items()}
    for name, array in found.items():
        on_host[name].copy_(array, non_blocking=True)
    done = torch.cuda.Event()
    done.record()
    return on_host, done


def _on_host(found: dict[str, torch.Tensor], copied: "torch.cuda.Event | None") -> Named:
    if copied is not None:
        copied.synchronize()
    return {name: array.cpu().numpy() for name, array in found.items()}


def encode(encoder: FrozenEncoder, pixels: np.ndarray, query: str = "", names: Sequence[str] = (PATCH,)) -> Named:
    """The arrays ``names`` of uint8 RGB images [B,S,S,3], each [B,...] float16.

    ``query`` is the query view that the encoder sees (empty: unchanged images).
    """
    found = encoder.in_memory(seen_as(encoder.normalise(pixels), query), names)
    return {name: array.half().cpu().numpy() for name, array in found.items()}
