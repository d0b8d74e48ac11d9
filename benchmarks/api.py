"""Times one picture through the Python interface beside its bare encoder and detector.

    OMP_NUM_THREADS=1 python benchmarks/api.py [--rounds 15]

``foundad.api.Detector.predict`` on a photograph in memory; the same picture through the resize, the network and the
detector's own arithmetic, written out here (bar: at most 1.2 times that); and the network alone as a floor. Processor
time of one thread, because other work on the machine disturbs it less.
"""

import argparse
import time

import numpy as np
import torch
from harness import Figures, medians
from PIL import Image

from foundad.api import Detector
from foundad.data.images import resize_square
from foundad.scores import top_k_mean

BAR = 1.2
SIDE = 700  # pixels of the photograph


def photograph(seed: int) -> Image.Image:
    """A picture with structure at all scales, SIDE x SIDE."""
    generator = np.random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 255, (24, 24, 3)).astype(np.uint8))
    return small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def bare(detector: Detector, picture: Image.Image) -> float:
    """The image score, with nothing around resize, network and the detector's arithmetic."""
    model = detector.model
    settings, (preparation, method) = model.encoder, next(iter(model.parts.values()))
    with torch.inference_mode():
        pixels = torch.from_numpy(resize_square(picture, settings.image_size, settings.interpolation).copy())
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (settings.mean, settings.std))
        tokens = detector._encoder.network((pixels.permute(2, 0, 1)[None].float() / 255 - mean) / std)
    scores = method.score(preparation.apply(tokens.half().numpy()))
    return float(top_k_mean(scores, model.top_k)[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    figures = Figures("api", "milliseconds of processor time per picture, one thread")
    picture = photograph(9)
    missed = 0
    for name in ("knn", "foundad"):
        detector = Detector.fit([photograph(seed) for seed in range(4)], method=name, device="cpu")
        settings = detector.model.encoder
        image = torch.zeros(1, 3, settings.image_size, settings.image_size)

        def network(detector: Detector = detector, image: torch.Tensor = image) -> None:
            with torch.inference_mode():
                detector._encoder.network(image)

        ways = {
            "ours": lambda detector=detector: detector.predict(picture),
            "with its map": lambda detector=detector: detector.predict(picture).maps,
            "bare": lambda detector=detector: bare(detector, picture),
            "network": network,
        }
        assert abs(detector.predict(picture).scores[0] - bare(detector, picture)) < 1e-5
        seconds = medians(ways, arguments.rounds, clock=time.process_time)
        floor, straight = 1000 * seconds["network"], 1000 * seconds["bare"]
        for way, note in (("ours", ""), ("with its map", "with the anomaly map")):
            ratio = seconds[way] / seconds["bare"]
            bar = f"<= {BAR} x bare" if way == "ours" else ""
            missed += bool(bar) and ratio > BAR
            figures.add(f"{name}, {way}", 1000 * seconds[way], straight, floor, bar, ratio if bar else None, note)
    figures.finish()
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
