"""Measures the stage features: wall time against its two floors and the straightforward loop, memory, and batch sizes.

    python benchmarks/features.py [--images 96] [--rounds 5]
    python benchmarks/features.py --memory          # peak memory of 500 and of 5,000 images
    python benchmarks/features.py --batches         # images per second by batch size, on one core

The floor is the bare encoder on preloaded batches plus bare decoding and resizing, each alone on all cores. The
straightforward loop decodes and encodes one picture after the other, as the released evaluation does.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from harness import Figures, medians
from PIL import Image

from foundad.config.encoder import Encoder
from foundad.data.images import load_image
from foundad.device import Compute
from foundad.encoders import build_encoder
from foundad.encoders.base import to_input
from foundad.encoders.extraction import encode, encode_files
from foundad.plan.catalogue import load_one

BATCH = 32
MEMORY = """
import sys
from pathlib import Path
from foundad.plan.catalogue import load_one
from foundad.data.verify import build_manifest
from foundad.config.dataset import Dataset
from foundad.device import Compute
from foundad.encoders.extraction import extract_features
from foundad.paths import Array
from foundad.provenance import peak_memory
root, size = Path(sys.argv[1]), int(sys.argv[2])
features = {"kind": "stages", "strides": [8, 16], "pool": 3, "grid": size // 16}
encoder = load_one(Path("config"), "encoders", "efficientnet-lite0")
encoder = encoder.model_validate(encoder.model_dump() | {"image_size": size, "features": features})
values = {"id": "many", "title": "Many", "layout": "mvtec", "root": str(root), "licence": "CC0", "source": "here"}
manifest = build_manifest(Dataset.model_validate(values), 2)
extract_features(manifest.at(root), encoder, [Array(root / "features.npy")], Compute(threads=2))
print(peak_memory() / 1e6)
"""


def encoders() -> list[Encoder]:
    """EfficientNet-Lite0 at 256 px, and DINOv3 ViT-S at 224 px with random weights."""
    folder = Path("config")
    vit = load_one(folder, "encoders", "dinov3-vits16")
    return [
        load_one(folder, "encoders", "efficientnet-lite0"),
        vit.model_copy(update={"weights": "random", "image_size": 224}),
    ]


def photographs(folder: Path, count: int, size: int = 700) -> list[Path]:
    """Write smooth pictures with some noise as JPEG, in the size of MVTec AD's smaller ones; returns their paths."""
    generator = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (12, 12, 3), np.uint8)).resize((size, size), 3)
        pixels = np.asarray(coarse, np.int16) + generator.integers(-6, 7, (size, size, 3))
        paths.append(folder / f"{number:05}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=92)
    return paths


def compare(settings: Encoder, paths: list[Path], rounds: int, figures: Figures) -> None:
    """Add one line: ours, the straightforward loop, and the sum of the floors."""
    cores = os.cpu_count() or 1
    torch.set_num_threads(cores)
    encoder = build_encoder(settings)
    pixels = [to_input(load_image(path), settings) for path in paths]

    def batches(size: int) -> list[torch.Tensor]:
        return [encoder.normalise(np.stack(pixels[i : i + size])) for i in range(0, len(pixels), size)]

    def decode() -> None:
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(lambda path: to_input(load_image(path), settings), paths))

    small, large = batches(8), batches(BATCH)
    seconds = medians(
        {
            "ours": lambda: list(encode_files(encoder, paths, Compute(threads=cores, batch_size=BATCH))),
            "straightforward": lambda: [encode(encoder, to_input(load_image(p), settings)[None].copy()) for p in paths],
            "bare encoder, batches of 8": lambda: [encoder(images) for images in small],
            "bare encoder, batches of 32": lambda: [encoder(images) for images in large],
            "decoding": decode,
        },
        rounds,
        warm=False,
    )
    bare = min(value for name, value in seconds.items() if name.startswith("bare"))
    floor = bare + seconds["decoding"]
    each = 1e3 / len(paths)
    figures.add(
        f"{settings.id} at {settings.image_size} px",
        seconds["ours"] * each,
        seconds["straightforward"] * each,
        floor * each,
        "at most 1.1 x the floor",
        seconds["ours"] / floor,
        f"encoder {bare * each:.1f}, decoding {seconds['decoding'] * each:.1f}",
    )


def memory(size: int) -> None:
    """Peak memory of a job over 500 and over 5,000 pictures."""
    peaks = {}
    for count in (500, 5000):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "many"
            for part in ("train/good", "test/good"):
                (folder / part).mkdir(parents=True)
            (one,) = photographs(folder / "train/good", 1, size=300)
            for number in range(count):
                # Equal files are refused. Bytes after a JPEG's end are not read, but make the files differ.
                (folder / f"test/good/{number:05}.jpg").write_bytes(one.read_bytes() + str(number).encode())
            command = [sys.executable, "-c", MEMORY, name, str(size)]
            peaks[count] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"  {count} images of {size} px: peak {peaks[count]:.0f} MB", flush=True)
    figures = Figures("features_memory", "MB at the peak")
    more = peaks[5000] - peaks[500]
    figures.add("5,000 images", peaks[5000], None, peaks[500], "at most 200 MB above 500 images", more)
    figures.finish()


def batch_sizes() -> None:
    """Print images per second of one core, by the number of images in a call."""
    torch.set_num_threads(1)
    for settings in encoders():
        encoder = build_encoder(settings)
        images = torch.randn(32, 3, settings.image_size, settings.image_size)
        rates = []
        for size in (1, 2, 4, 8, 16, 32):
            encoder(images[:size])
            started = time.perf_counter()
            for start in range(0, 32, size):
                encoder(images[start : start + size])
            rates.append(f"{size}: {32 / (time.perf_counter() - started):.1f}")
        print(f"{settings.id} at {settings.image_size} px, images per second by batch: {', '.join(rates)}", flush=True)


def main() -> None:
    """Measure both encoders."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="measure only peak memory")
    parser.add_argument("--memory-size", type=int, default=256, help="image size for --memory")
    parser.add_argument("--batches", action="store_true", help="measure only throughput by batch size")
    options = parser.parse_args()
    if options.memory:
        memory(options.memory_size)
    elif options.batches:
        batch_sizes()
    else:
        figures = Figures("features", "ms an image")
        with tempfile.TemporaryDirectory() as folder:
            paths = photographs(Path(folder), options.images)
            for settings in encoders():
                compare(settings, paths, options.rounds, figures)
        figures.finish()


if __name__ == "__main__":
    main()
