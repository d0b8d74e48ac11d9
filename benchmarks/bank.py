"""Compares the bank with pairs encoded at every step: images encoded, time and accuracy, on real defect photographs.

    OMP_NUM_THREADS=1 python benchmarks/bank.py [--seeds 5] [--steps 400] [--dataset realdata]

FoundAD on EfficientNet-Lite0, four images per category. Both ways make pairs with the same augmentation and synthesis
and train for as many steps. One draws from a bank of 64 pairs; the other augments, damages and encodes anew at every
step, as published. The time is processor time of one thread, of bank and fit against the fit alone. The fresh way does
not encode undamaged inputs a second time. Plain code, such as the released one, encodes all targets and all inputs; a
line of its own shows that (see study.py).
"""

import argparse
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
from cells import Workshop
from harness import Figures

from foundad.cells import Cell
from foundad.device import Precision

METRICS = ("i_auroc", "strict/aupro_30")


def main() -> None:
    """Print one line for images, one for time, and one per metric."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--dataset", default="realdata")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32", help="precision of both ways")
    options = parser.parse_args()
    encoder = "efficientnet-lite0"
    seconds: dict[str, list[float]] = {"bank": [], "fresh": []}
    images: dict[str, list[int]] = {"bank": [], "fresh": []}
    values: dict[str, list[list[float]]] = {"bank": [], "fresh": []}
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path(folder), precision=options.precision)
        shop.prepare(options.dataset, 4, range(options.seeds))
        shop.stage("features", options.dataset, encoder)
        for pairs in seconds:
            shop.add_method(pairs, base="foundad-400", training={"steps": options.steps, "pairs": pairs})
        with shop.counting():
            for seed in range(options.seeds):
                for pairs in seconds:
                    cell = Cell(options.dataset, encoder, pairs, 4, seed)
                    before = shop.encoded
                    made = shop.bank(cell) if pairs == "bank" else 0.0
                    seconds[pairs].append(made + shop.cell("fit", cell))
                    images[pairs].append(shop.encoded - before)
                    shop.cell("evaluate", cell)
                    found = shop.metrics(cell)
                    values[pairs].append([100 * found[metric] for metric in METRICS])
                    accuracy = " ".join(
                        f"{metric} {value:.2f}" for metric, value in zip(METRICS, values[pairs][-1], strict=True)
                    )
                    print(f"  seed {seed}, {pairs}: {seconds[pairs][-1]:.1f} s, {accuracy}", flush=True)
        added = shop.spared_images(cell)
        whole = added * shop.encoder_seconds(encoder, 8)
    figures = Figures(f"bank_{options.precision}", "a cell, mean over seeds")
    encoded = {pairs: float(np.mean(count)) for pairs, count in images.items()}
    wall = {pairs: float(np.mean(taken)) for pairs, taken in seconds.items()}
    for what, unit, bar in ((encoded, "images encoded", "10 x"), (wall, "seconds", "3 x")):
        what_for = f"{unit}, {options.seeds} seeds, {options.steps} steps"
        figures.add(what_for, what["bank"], what["fresh"], None, bar, what["fresh"] / what["bank"])
    note = f"{encoded['fresh'] + added:.0f} images"
    figures.add("seconds, targets and inputs encoded whole", wall["bank"], wall["fresh"] + whole, note=note)
    for number, metric in enumerate(METRICS):
        bank, fresh = (np.array(values[pairs])[:, number] for pairs in ("bank", "fresh"))
        spread = float(fresh.std(ddof=1)) if len(fresh) > 1 else float("nan")
        note = f"fresh {fresh.mean():.2f} ± {spread:.2f}, bank {bank.mean():.2f}"
        figures.add(
            metric, bank.mean(), None, None, "within one deviation", abs(bank.mean() - fresh.mean()) / spread, note
        )
    figures.finish()


if __name__ == "__main__":
    main()
