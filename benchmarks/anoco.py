"""Compares the time that ANoCo takes to score an image with plain nearest-neighbour search on the same features.

    OMP_NUM_THREADS=1 python benchmarks/anoco.py [--rounds 5]

The tokens are in clusters, as those of photographs are. Every setting has the sizes of an encoder and of a memory that
occur in the harness. Times are processor seconds of one image, medians of interleaved rounds.
"""

import argparse
import time

import numpy as np
from harness import Figures, medians

from foundad.detection.bank import BankTokens
from foundad.detection.protocol import Detector
from foundad.detection.registry import build
from foundad.device import ON_CPU
from foundad.plan.catalogue import load_catalogue

IMAGES = 4
SETTINGS = {
    "DINOv3-L, one category, 1-shot": (1, 1024, 1024),
    "DINOv3-L, one category, 4-shot": (4, 1024, 1024),
    "DINOv3-L, 15 categories, 1-shot": (15, 1024, 1024),
    "Lite0, one category, 4-shot": (4, 256, 152),
    "Lite0, 5 categories, 4-shot": (20, 256, 152),
    "Lite0, 15 categories, 4-shot": (60, 256, 152),
}


def tokens(images: int, patches: int, channels: int, seed: int) -> np.ndarray:
    """Patch tokens [B,N,D] float32 around 64 common centres."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(64, channels))
    noise = generator.normal(0, 0.5, (images, patches, channels))
    return (centres[generator.integers(64, size=(images, patches))] + noise).astype(np.float32)


def main() -> None:
    """Time both in every setting."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    methods = load_catalogue().methods
    figures = Figures("anoco", "processor seconds of an image; the floor is the method knn")
    for name, (drawn, patches, channels) in SETTINGS.items():
        normal, images = (tokens(n, patches, channels, n) for n in (drawn, IMAGES))
        detectors: dict[str, Detector] = {method: build(methods[method], 0, ON_CPU) for method in ("knn", "anoco")}
        for detector in detectors.values():
            detector.fit(BankTokens(normal, ["category"] * drawn, normal[:0], normal[:0], []))
        ways = {
            name: lambda scoring=detector.score, images=images: scoring(images) for name, detector in detectors.items()
        }
        seconds = medians(ways, arguments.rounds, clock=time.process_time)
        knn, anoco = seconds["knn"] / IMAGES, seconds["anoco"] / IMAGES
        figures.add(name, anoco, floor=knn, bar="<= 1.5 times knn", ratio=anoco / knn)
    figures.finish()


if __name__ == "__main__":
    main()
