"""Tries values of ANoCo's undisclosed keys by leave-one-out on drawn images, without any test image.

    python benchmarks/anoco_keys.py --results results/realdata --dataset realdata --encoder efficientnet-lite0 --shots 4

Reads the banks of a finished run that has ANoCo or a method with the same bank. For every drawn image, the memory is the
other drawn images of its category. The pairs of this image are scored, clean against synthetic anomalies. Printed is the
mean I-AUROC over categories and seeds, and its standard deviation over seeds, for every length of the ranking (rows) and
every lambda in mean lengths of a normal token (columns), with anchors and without.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from foundad.detection.bank import BankTokens, Preparation
from foundad.detection.registry import build
from foundad.device import ON_CPU
from foundad.paths import Results
from foundad.plan.catalogue import Catalogue, load_catalogue
from foundad.plan.project import bank_id
from foundad.sealed import read_tensors

NEIGHBOURS = (1, 2, 4, 8, 16, 32, 64)
WEIGHTS = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)


@dataclass
class Fold:
    """One drawn image: the other drawn images of its category, and its clean and synthetic pictures; [n,N,D]."""

    category: str
    others: np.ndarray
    clean: np.ndarray
    synthetic: np.ndarray


def folds(path: Path, kind: str) -> Iterator[Fold]:
    """A fold for every drawn image of the bank ``path`` that has pairs; tokens are prepared as ``kind`` says."""
    arrays, seal = read_tensors(path, "bank")
    preparation = Preparation.of(kind, arrays["normal"])
    normal, clean, synthetic = (preparation.apply(arrays[name]) for name in ("normal", "clean", "synthetic"))
    ids, categories, pairs = (np.array(seal[name]) for name in ("normal_ids", "normal_categories", "pair_ids"))
    for image, category in zip(ids, categories, strict=True):
        rows = pairs == image
        if rows.any():
            yield Fold(category, normal[(categories == category) & (ids != image)], clean[rows], synthetic[rows])


def i_auroc(catalogue: Catalogue, found: list[Fold], keys: dict[str, object]) -> float:
    """Mean I-AUROC over categories of synthetic against clean pictures, all folds of a category together."""
    method = catalogue.methods["anoco"].model_copy(update=keys)
    scores: dict[str, tuple[list[float], list[float]]] = {}
    for fold in found:
        detector = build(method, 0, ON_CPU)
        none = fold.others[:0]
        detector.fit(BankTokens(fold.others, [fold.category] * len(fold.others), none, none, []))
        of_category = scores.setdefault(fold.category, ([], []))
        for pictures, kept in zip((fold.clean, fold.synthetic), of_category, strict=True):
            kept += detector.score(pictures).max(axis=1).tolist()
    values = [roc_auc_score([0] * len(clean) + [1] * len(bad), clean + bad) for clean, bad in scores.values()]
    return float(np.mean(values))


def main() -> None:
    """Print one grid of values with anchors and one without."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--dataset", default="realdata")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    catalogue, results = load_catalogue(), Results(arguments.results)
    name, kind = bank_id(catalogue.methods["anoco"]), catalogue.encoders[arguments.encoder].tokens
    of_seeds = [
        list(folds(results.bank(arguments.dataset, arguments.encoder, arguments.shots, seed, name), kind))
        for seed in arguments.seeds
    ]
    print(f"{arguments.dataset}, {arguments.encoder}, {arguments.shots}-shot, {len(of_seeds)} seeds: I-AUROC (%)")
    for anchors in (True, False):
        print(f"{'anchors' if anchors else 'bipartite':<10}" + "".join(f"{f'lambda {w:g}':>15}" for w in WEIGHTS))
        for neighbours in NEIGHBOURS:
            cells = []
            for weight in WEIGHTS:
                keys = {"neighbours": neighbours, "weight": weight, "anchors": anchors}
                values = [100 * i_auroc(catalogue, found, keys) for found in of_seeds]
                cells.append(f"{np.mean(values):8.1f} ± {np.std(values):4.1f}")
            print(f"{neighbours:<10}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
