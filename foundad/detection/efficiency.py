"""Stage ``efficiency``: measures what scoring a picture costs on this machine, with the fitted model of one cell.

The measurement goes from decoded pictures in memory to image scores: encoder, preparation and method together. Times
differ from run to run, so they are not metrics and are not in metrics.parquet. The workflow runs this stage alone on
the machine.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from foundad.config.encoder import Encoder
from foundad.data.frame import patches_inside, windows
from foundad.data.images import load_image
from foundad.data.manifest import Manifest
from foundad.detection.model import Model
from foundad.device import ON_CPU, Compute
from foundad.encoders import build_encoder
from foundad.encoders.base import to_input
from foundad.encoders.extraction import encode
from foundad.key import BY_HAND, Key
from foundad.provenance import machine, peak_memory, versions
from foundad.sealed import Seal, read_json, write_json

BATCHES = (1, 8)
WARM_UP = 3  # calls that are not timed
LEAST_CALLS, MOST_CALLS, SECONDS = 5, 50, 5.0  # timed calls per batch size, and when to stop


def measure(
    manifest: Manifest,
    settings: Encoder,
    inputs: Mapping[str, Path],
    out: Path,
    compute: Compute = ON_CPU,
    key: Key = BY_HAND,
) -> None:
    """Write ``out`` (JSON): parameters, operations, milliseconds, memory, training time and encoder passes.

    Args:
        inputs: paths of the cell's ``model`` and ``record``.
    """
    device = compute.device
    torch.set_num_threads(compute.threads)
    record = read_json(inputs["record"], "record", key.of("record")).facts
    model, encoder = Model.load(inputs["model"], compute, key.of("model")), build_encoder(settings, compute)
    drawn = record["cell"]["shots"] * len({row.category for row in manifest.rows})
    rows = manifest.test[: max(BATCHES)]
    pictures = np.stack([to_input(load_image(manifest.root / row.image_path), settings) for row in rows])
    category = rows[0].category

    inside = patches_inside(windows(settings, [(row.width, row.height) for row in rows]), settings.grid)
    ids = [row.image_id for row in rows]

    def score(pixels: np.ndarray) -> None:
        seen = {view: encode(encoder, pixels, view, model.arrays) for view in model.views}
        count = len(pixels)
        model.score(seen, category, None if inside is None else inside[:count], ids[:count])

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    times = {str(batch): milliseconds(score, pictures[:batch], device) for batch in BATCHES}
    memory = torch.cuda.max_memory_allocated() if device.startswith("cuda") else peak_memory()
    trainable = sum(part.get("parameters", 0) for part in record["fit"].values())
    facts = {
        "cell": record["cell"],
        "trainable_parameters": trainable,
        "parameters": trainable + sum(parameter.numel() for parameter in encoder.parameters()),
        "operations": operations(score, pictures[:1]),
        "milliseconds": times,
        "peak_memory_bytes": memory,
        "memory_kind": "allocated on the GPU" if device.startswith("cuda") else "resident",
        "fit_seconds": record["fit_seconds"],
        "training_passes": model.method.passes(drawn, sum(part.get("steps", 0) for part in record["fit"].values())),
        "passes_an_image": len(model.views),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else machine()["processor"],
        "threads": compute.threads,
        "precision": compute.precision,
        "versions": versions(),
        "machine": machine(),
    }
    write_json(out, Seal("efficiency", key.own, facts))


def milliseconds(score: Callable[[np.ndarray], None], pixels: np.ndarray, device: str) -> dict[str, float]:
    """Median and quartiles of the milliseconds per image, over calls after a warm-up; each call is synchronised."""

    def call() -> float:
        started = time.perf_counter()
        score(pixels)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - started) / len(pixels)

    for _ in range(WARM_UP):
        call()
    found: list[float] = []
    started = time.perf_counter()
    while len(found) < LEAST_CALLS or (len(found) < MOST_CALLS and time.perf_counter() - started < SECONDS):
        found.append(call())
    low, median, high = np.quantile(found, [0.25, 0.5, 0.75]).tolist()
    return {"median": median, "quartile1": low, "quartile3": high, "calls": len(found)}


def operations(score: Callable[[np.ndarray], None], pixels: np.ndarray) -> int:
    """Floating-point operations of torch in one call; a multiplication and an addition count as two."""
    # The counter does not see fused attention, so attention runs in its plain form.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        score(pixels)
    return int(counter.get_total_flops())
