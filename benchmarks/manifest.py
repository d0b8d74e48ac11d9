"""Compares the stage manifest, which lists and verifies images, with a bare loop that reads, hashes and decodes them.

    python benchmarks/manifest.py [--images 2000] [--size 512] [--threads 2]

A second verification of unchanged files reads none of them. Its time for ten times as many files is shown as well.
"""

import argparse
import hashlib
import io
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from foundad.config.dataset import Dataset
from foundad.data.manifest import write_manifest
from foundad.data.verify import build_manifest


def write_images(root: Path, images: int, size: int) -> None:
    """Write one category in the layout of MVTec AD; three quarters are normal training images."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (size + 64, size + 64, 3), np.uint8)
    for number in range(images):
        top, left = generator.integers(0, 64, 2)
        pixels = noise[top : top + size, left : left + size].copy()
        pixels[0, 0] = [number & 255, number >> 8 & 255, number >> 16]
        folder = root / "thing" / ("train/good" if number % 4 else "test/good")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:06}.png", compress_level=1)


def bare(path: Path) -> str:
    """Read, hash and decode one file."""
    data = path.read_bytes()
    Image.open(io.BytesIO(data)).load()
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    """Print the two times, their ratio, and the time of a verification that finds nothing changed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, checked = Path(folder, "data"), Path(folder, "checked.json")
        write_images(root, options.images, options.size)
        keys = {"id": "many", "title": "Many", "layout": "mvtec", "licence": "none", "source": "noise"}
        dataset = Dataset.model_validate(keys | {"root": str(root)})
        paths = sorted(root.rglob("*.png"))
        times: dict[str, float] = {}
        for _ in range(options.rounds):
            start = time.perf_counter()
            with ThreadPoolExecutor(options.threads) as pool:
                list(pool.map(bare, paths))
            times["bare"] = min(times.get("bare", np.inf), time.perf_counter() - start)
            start = time.perf_counter()
            manifest = build_manifest(dataset, options.threads, checked, deep=True)
            write_manifest(manifest, Path(folder, "manifest.parquet"))
            times["manifest"] = min(times.get("manifest", np.inf), time.perf_counter() - start)
        ratio = times["manifest"] / times["bare"]
        print(f"{options.images} images of {options.size} px, {options.threads} threads, best of {options.rounds}")
        print(f"bare loop {times['bare']:.2f} s, manifest {times['manifest']:.2f} s: {ratio:.2f} x")

        many = 10 * options.images
        small = Path(folder, "small")
        write_images(small, many, 32)
        dataset = Dataset.model_validate(keys | {"root": str(small)})
        checked = Path(folder, "small.json")
        build_manifest(dataset, options.threads, checked)
        start = time.perf_counter()
        write_manifest(build_manifest(dataset, options.threads, checked), Path(folder, "manifest.parquet"))
        print(f"again, {many} unchanged images: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
