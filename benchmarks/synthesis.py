"""Compares our CutPaste and foreground with the released algorithm, written straightforwardly, on 512-pixel pictures.

    OMP_NUM_THREADS=1 python benchmarks/synthesis.py [--size 512] [--images 12] [--rounds 3]

The straightforward way takes the steps of the released code one after the other: it copies and denormalises the
picture, and uses torchvision's jitter, scikit-image's thresholds and morphology, and a list of all pixels that may be a
corner. The floor is one copy of the picture. One thread; medians of interleaved rounds.
"""

import argparse
import math
import random
import time
from collections.abc import Callable

import numpy as np
import torch
from harness import Figures, medians
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import closing, opening
from torch import Tensor
from torchvision.transforms import ColorJitter, InterpolationMode, Normalize
from torchvision.transforms import functional as transforms

from foundad.config.bank import Synthesis
from foundad.pairs.cutpaste import CutPaste
from foundad.pairs.foreground import CATEGORY_RULES, category_mask, triangle_threshold

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RELEASED = Synthesis(foreground="by-category", placement="corner", jitter_space="normalised", scar_corners="pasted")
CATEGORIES = ("carpet", "hazelnut", "bottle", "pcb1", "candle")


def pictures(count: int, size: int) -> Tensor:
    """Smooth bright blobs on a dark ground, [count,3,size,size] float32, normalised."""
    generator = np.random.default_rng(0)
    images = []
    for _ in range(count):
        relief = ndimage.gaussian_filter(generator.normal(size=(size, size, 3)), (size / 12, size / 12, 0))
        relief = (relief - relief.min()) / (relief.max() - relief.min())
        images.append((relief + generator.normal(scale=0.02, size=relief.shape)).clip(0, 1))
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().contiguous()
    return (stacked - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def straightforward_mask(image: Tensor, category: str) -> np.ndarray:
    """The foreground by category name, computed step by step."""
    back = Normalize([-m / s for m, s in zip(MEAN, STD, strict=True)], [1 / s for s in STD])
    pixels = (back(image).clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    rule = CATEGORY_RULES[category]
    if rule == "everything":
        return np.ones(pixels.shape[:2], bool)
    grey = ((pixels.astype(np.int64) @ np.array([9798, 19235, 3735]) + (1 << 14)) >> 15).astype(np.uint8)
    if rule == "bright-triangle":
        mask = grey > triangle_threshold(grey)
    elif rule == "dark":
        mask = ~(grey > threshold_otsu(grey))
    elif rule == "blue-triangle":
        mask = pixels[..., 2] > triangle_threshold(pixels[..., 2])
        mask = opening(closing(mask, np.ones((8, 8), bool)), np.ones((3, 3), bool))
    else:
        mask = grey > threshold_otsu(grey)
        mask = opening(closing(mask, np.ones((3, 3), bool)), np.ones((3, 3), bool))
    return opening(closing(mask, np.ones((6, 6), bool)), np.ones((6, 6), bool))


def straightforward(image: Tensor, category: str) -> Tensor:
    """One damaged copy of ``image`` [3,H,W]."""
    H, W = image.shape[1:]
    damaged = image.clone()
    mask = straightforward_mask(image, category)
    jitter = ColorJitter(0.5, 0.5, 0.5, 0.5)
    if random.random() < 0.5:
        area, aspect = random.uniform(0.02, 0.25) * H * W, random.uniform(0.3, 1 / 0.3)
        w, h = min(W, round(math.sqrt(area * aspect))), min(H, round(math.sqrt(area / aspect)))
        x, y = random.randint(0, W - w), random.randint(0, H - h)
        piece = jitter(image[:, y : y + h, x : x + w].clone())
    else:
        w, h = int(random.uniform(2, 16)), int(random.uniform(10, 25))
        x, y = random.randint(0, W - w), random.randint(0, H - h)
        piece = jitter(image[:, y : y + h, x : x + w].clone())
        piece = transforms.rotate(piece, random.uniform(-45, 45), InterpolationMode.BILINEAR, expand=True)
        h, w = piece.shape[1:]
    corners = [(int(y), int(x)) for y, x in np.argwhere(mask) if y + h <= H and x + w <= W]
    if corners:
        top, left = random.choice(corners)
        damaged[:, top : top + h, left : left + w] = piece
    return damaged


def main() -> None:
    """Print one line per category, and their mean."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = pictures(options.images, options.size)
    released, own = CutPaste(RELEASED, MEAN, STD), CutPaste(Synthesis(), MEAN, STD)
    figures = Figures("synthesis", "ms of processor time a picture")
    total = {"ours": 0.0, "straightforward": 0.0, "floor": 0.0}
    for category in CATEGORIES:
        for image in images:
            pixels = straightforward_mask(image, category)
            unit = ((image - released.inverse_mean) / released.inverse_std).clamp(0, 1)
            assert np.array_equal(pixels, category_mask((unit * 255).byte().permute(1, 2, 0).numpy(), category))

        def generators() -> list[np.random.Generator]:
            return [np.random.default_rng(number) for number in range(len(images))]

        ways: dict[str, Callable[[], object]] = {
            "ours": lambda c=category: released(images, generators(), [c] * len(images)),
            "straightforward": lambda c=category: [straightforward(image, c) for image in images],
            "floor": lambda: [image.clone() for image in images],
        }
        random.seed(0)
        torch.manual_seed(0)
        seconds = medians(ways, options.rounds, clock=time.process_time)
        for name in total:
            total[name] += seconds[name] / len(images) / len(CATEGORIES) * 1e3
        figures.add(f"released, {category}", **{k: v / len(images) * 1e3 for k, v in seconds.items()})
    figures.add("released, mean of the five", **total, bar="20 x", ratio=total["straightforward"] / total["ours"])
    adaptive = (
        medians({"ours": lambda: own(images, generators())}, options.rounds, clock=time.process_time)["ours"]
        / len(images)
        * 1e3
    )
    note = "against the released algorithm's mean"
    figures.add("default (adaptive foreground)", adaptive, total["straightforward"], note=note)
    figures.finish()


if __name__ == "__main__":
    main()
