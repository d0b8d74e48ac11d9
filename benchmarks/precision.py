"""Measures what lower precision does to accuracy: float16 storage, bfloat16 encoding and training, against float32.

    OMP_NUM_THREADS=1 python benchmarks/precision.py [--dataset textures] [--steps 80] [--seeds 3]

Test images and drawn images are encoded once in float32 and once under bfloat16 autocast, and kept as float32. Nearest
neighbours score the tokens as they are and rounded to float16. FoundAD trains on the same bank in float32 and in
bfloat16. The numbers are image AUROC, mean over categories, in percent.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from cells import Workshop
from harness import Figures
from sklearn.metrics import roc_auc_score

from foundad.data.draws import read_draw
from foundad.data.images import load_image
from foundad.data.location import image_root
from foundad.data.manifest import read_manifest
from foundad.detection import registry
from foundad.detection.bank import BankTokens, Preparation
from foundad.device import ON_CPU, Compute, Precision
from foundad.encoders import build_encoder
from foundad.encoders.base import to_input
from foundad.plan.catalogue import load_one
from foundad.plan.project import bank_id
from foundad.scores import top_k_mean


def encoded(settings, paths: Sequence[Path], precision: Precision) -> np.ndarray:
    """Patch tokens [n,N,D] float32 of image files."""
    encoder = build_encoder(settings, Compute(precision=precision))
    parts = [
        encoder(
            encoder.normalise(np.stack([to_input(load_image(path), settings) for path in paths[start : start + 8]]))
        )
        for start in range(0, len(paths), 8)
    ]
    return torch.cat(parts).numpy()


def auroc(patch_scores: np.ndarray, labels: np.ndarray, categories: np.ndarray) -> float:
    """Image AUROC in percent, mean over categories; an image score is the mean of the ten highest patches."""
    scores = top_k_mean(patch_scores, 10)
    parts = [categories == name for name in np.unique(categories)]
    return 100 * float(np.mean([roc_auc_score(labels[part], scores[part]) for part in parts]))


def main() -> None:
    """Print one line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="textures")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = Figures("precision", "image AUROC, per cent; the ratio is the difference in points")
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path(folder))
        shop.prepare(options.dataset, 4, range(options.seeds))
        settings = load_one(shop.config, "encoders", options.encoder)
        root = image_root(shop.results.located(load_one(shop.config, "datasets", options.dataset)))
        rows = read_manifest(shop.results.manifest(options.dataset)).test
        labels, categories = (np.array([getattr(row, name) for row in rows]) for name in ("label", "category"))
        tests = [root / row.image_path for row in rows]
        drawn = [root / path for path in read_draw(shop.results.draw(options.dataset, 4, 0)).image_paths]

        def neighbours(precision: Precision, dtype: type) -> float:
            normal, test = (encoded(settings, paths, precision).astype(dtype) for paths in (drawn, tests))
            preparation = Preparation.of(settings.tokens, normal)
            detector = registry.build(load_one(shop.config, "methods", "knn"), 0, ON_CPU)
            empty = np.empty((0, *normal.shape[1:]), np.float32)
            detector.fit(BankTokens(preparation.apply(normal), ["all"] * len(normal), empty, empty, []))
            scores = [detector.score(preparation.apply(test[i : i + 8])) for i in range(0, len(test), 8)]
            return auroc(np.concatenate(scores), labels, categories)

        exact = neighbours("float32", np.float32)
        for what, found, bar in (
            ("float16 storage, nearest neighbours", neighbours("float32", np.float16), "below 0.01 points"),
            ("bfloat16 encoder, nearest neighbours", neighbours("bfloat16", np.float16), ""),
        ):
            figures.add(what, found, None, None, bar, abs(found - exact), f"float32 {exact:.4f}")

        method = load_one(shop.config, "methods", "foundad")
        method = method.model_copy(update={"training": method.training.model_copy(update={"steps": options.steps})})
        test = encoded(settings, tests, "float32").astype(np.float16)
        trained: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
        for seed in range(options.seeds):
            shop.stage("bank", options.dataset, options.encoder, "foundad", "--shots", 4, "--seed", seed)
            path = shop.results.bank(options.dataset, options.encoder, 4, seed, bank_id(method))
            bank = BankTokens.load(path)[0]
            preparation = Preparation.of(settings.tokens, bank.normal)
            for precision, values in trained.items():
                detector = registry.build(method, seed, Compute(precision=precision))
                detector.fit(bank.prepared(preparation))
                values.append(auroc(detector.score(preparation.apply(test)), labels, categories))
        full, half = (np.array(values) for values in trained.values())
        spread = float(full.std(ddof=1)) if len(full) > 1 else float("nan")
        note = f"float32 {full.mean():.2f} ± {spread:.2f} over {len(full)} seeds"
        difference = float(abs(full.mean() - half.mean()))
        figures.add("bfloat16 training", float(half.mean()), None, None, "one seed deviation", difference, note)
    figures.finish()


if __name__ == "__main__":
    main()
