"""Compares the training time of INP-Former and Dinomaly with that of FoundAD's 400 steps, on the same tokens.

    OMP_NUM_THREADS=1 python benchmarks/trained_rivals.py [--encoder efficientnet-lite0] [--drawn 5] [--rounds 3]

A fit is timed with few steps: processor seconds of one thread, medians of interleaved rounds, without what two steps
take. The time of a cell is that of a step times its steps, as each method's YAML sets them for ``--drawn`` images. Tokens are
random. The bar is three times FoundAD-400 for ``inp-former-150``; the published 200 epochs stand beside it.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Figures, medians

from foundad.config.encoder import Encoder
from foundad.detection.bank import BankTokens
from foundad.detection.registry import build
from foundad.device import ON_CPU
from foundad.plan.catalogue import load_catalogue

FOUNDAD, BAR = "foundad-400", 3.0
RIVALS = ("inp-former-150", "inp-former-same-features", "dinomaly-150", "dinomaly-same-features")
SHORT = 2  # steps of the fit that is subtracted


def bank_of(method: Any, encoder: Encoder, drawn: int) -> BankTokens:
    """Random tokens of ``drawn`` images under the method's views, and of its pairs."""
    generator = np.random.default_rng(0)

    def tokens(count: int) -> np.ndarray:
        return generator.normal(size=(count, encoder.grid**2, encoder.channels)).astype(np.float32)

    images, pairs = drawn * method.bank.views, tokens(method.bank.pairs)
    return BankTokens(tokens(images), ["a"] * images, pairs, pairs, ["a"] * len(pairs), layers=encoder.layers)


def fit_of(method: Any, bank: BankTokens, steps: int) -> Callable[[], Any]:
    """A fit of ``steps`` steps."""
    training = method.training.model_copy(update={"steps": steps, "epochs": None})
    return lambda: build(method.model_copy(update={"training": training}), 0, ON_CPU).fit(bank)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--drawn", type=int, default=5, help="drawn images of all categories")
    parser.add_argument("--measured", type=int, default=12, help="steps that are timed")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    catalogue = load_catalogue(Path("config"))
    encoder = catalogue.encoders[args.encoder]
    methods = {name: catalogue.methods[name] for name in (FOUNDAD, *RIVALS)}
    banks = {name: bank_of(method, encoder, args.drawn) for name, method in methods.items()}
    # A rival at another budget takes the same step.
    timed = [name for name in methods if not name.endswith("same-features")]
    ways = {
        (name, steps): fit_of(methods[name], banks[name], steps)
        for name in timed
        for steps in (SHORT, SHORT + args.measured)
    }
    seconds = medians({str(key): way for key, way in ways.items()}, args.rounds, clock=time.process_time)
    step = {
        name: (seconds[str((name, SHORT + args.measured))] - seconds[str((name, SHORT))]) / args.measured
        for name in timed
    }
    figures = Figures("trained_rivals", f"processor seconds of a fit, {args.encoder}, {args.drawn} drawn images")
    floor = methods[FOUNDAD].training.budget(args.drawn) * step[FOUNDAD]
    for name in RIVALS:
        steps = methods[name].training.budget(len(banks[name].normal))
        own = steps * step[name.replace("same-features", "150")]
        bar = (
            "at most 3 times FoundAD-400"
            if name == "inp-former-150"
            else "none, published steps"
            if "same" in name
            else ""
        )
        note = f"{steps} steps of {1000 * own / steps:.0f} ms; FoundAD-400 {1000 * step[FOUNDAD]:.0f} ms"
        figures.add(name, own, floor=floor, bar=bar, ratio=own / floor, note=note)
    figures.finish()


if __name__ == "__main__":
    main()
