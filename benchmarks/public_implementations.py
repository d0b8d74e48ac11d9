"""Compares our PatchCore and AnomalyDINO with the public implementations, on the same features, category by category.

    python benchmarks/public_implementations.py --results results --dataset realdata --encoder efficientnet-lite0 \\
        --shots 4 --seed 0 --anomalib SITE --anomalydino CLONE

Reads the manifest, features and bank of a finished run (the bank of the method ``anomalydino``, with rotated
references). SITE is a folder that ``pip install --no-deps --target SITE anomalib …`` filled with anomalib and its
imports. CLONE is a clone of github.com/dammsi/AnomalyDINO, with faiss-cpu, opencv-python-headless and tifffile in SITE.
Either may be left out. None of their code is part of this project. Prints I-AUROC of both, P-AUROC of both under the
protocol strict, and the largest difference of a patch score. Exits with 1 if an AUROC differs by more than 0.001.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parity.oracle_anomalydino import scores as anomalydino
from sklearn.metrics import roc_auc_score

from foundad.data.location import image_root
from foundad.data.manifest import Manifest, read_manifest
from foundad.data.masks import load_mask
from foundad.detection.bank import BankTokens, Preparation
from foundad.detection.registry import build
from foundad.detection.shared.coreset import greedy_k_centre, project
from foundad.device import ON_CPU
from foundad.metrics.category import Category, evaluate_category
from foundad.metrics.masks import find_defects
from foundad.paths import Results
from foundad.plan.catalogue import load_catalogue
from foundad.plan.project import bank_id
from foundad.scores import top_k_mean

LIMIT = 1e-3
SCALE = 4.0
Scores = tuple[np.ndarray, np.ndarray]  # of patches [B,N] and of images [B]


def ours(method: Any, bank: BankTokens, tokens: np.ndarray) -> Scores:
    """Scores by the detector of ``method``, fitted on ``bank``."""
    detector = build(method, 0, ON_CPU)
    detector.fit(bank)
    patch_scores, image_scores = detector.score_images(tokens)
    if image_scores is None:
        image_scores = top_k_mean(patch_scores, 1, share=method.top_share)
    return patch_scores, image_scores


def anomalib_patchcore(normal: np.ndarray, tokens: np.ndarray, share: float) -> Scores:
    """Scores by anomalib's PatchCore, with the tokens as one feature map in place of its backbone."""
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    model = PatchcoreModel(layers=["layer2"], backbone="resnet18", pre_trained=False, num_neighbors=9)

    def embedded(values: np.ndarray) -> torch.Tensor:
        side = round(values.shape[1] ** 0.5)
        maps = torch.from_numpy(values).transpose(1, 2).reshape(len(values), -1, side, side)
        return model.reshape_embedding(model.generate_embedding({"layer2": model.feature_pooler(maps)}))

    with torch.inference_mode():
        model.embedding_store.append(embedded(normal))
        if share == 1:
            model.memory_bank = torch.vstack(model.embedding_store)
        else:
            model.subsample_embedding(share)
        found = []
        for image in tokens:
            embedding = embedded(image[None])
            scores, locations = model.nearest_neighbors(embedding, 1)
            scores, locations = scores.reshape(1, -1), locations.reshape(1, -1)
            found.append((scores[0].numpy(), float(model.compute_anomaly_score(scores, locations, embedding))))
    return np.stack([patches for patches, _ in found]), np.array([score for _, score in found])


def anomalib_coreset(vectors: np.ndarray, count: int, first: int) -> list[int]:
    """The rows that anomalib's greedy loop selects from ``vectors``, already projected, starting with ``first``."""
    from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy

    sampler = KCenterGreedy(torch.from_numpy(vectors), (count + 0.5) / len(vectors))
    sampler.features = torch.from_numpy(vectors)
    chosen = [torch.tensor(first)]
    for _ in range(count - 1):
        sampler.update_distances(chosen[-1])
        index = sampler.get_new_idx()
        sampler.min_distances.scatter_(0, index.unsqueeze(0).unsqueeze(1), 0.0)
        chosen.append(index)
    return torch.stack(chosen).tolist()


def p_auroc(manifest: Manifest, root: Path, rows: np.ndarray, scores: Scores, size: int) -> float:
    """P-AUROC of patch scores under the protocol strict, with the smoothing that both methods use."""
    images = [manifest.test[row] for row in rows]

    paths = (None if image.mask_path is None else root / image.mask_path for image in images)
    masks = (None if path is None else load_mask(path, manifest.mask_threshold) for path in paths)
    side = round(scores[0].shape[1] ** 0.5)
    labels = np.array([image.label for image in images])
    maps = scores[0].reshape(-1, side, side).astype(np.float32)
    given = Category(scores[1], labels, maps, find_defects(masks, (size, size)) if manifest.has_masks else None, 4.0)
    found = evaluate_category(given)
    return next(float(value.value or 0) for value in found if value.metric == "strict/p_auroc")


def main() -> int:
    """Compare on every category; returns 1 if an AUROC differs by more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--results", "--anomalib", "--anomalydino"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--dataset", default="realdata")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    catalogue, results = load_catalogue(), Results(arguments.results)
    encoder, dataset = catalogue.encoders[arguments.encoder], catalogue.datasets[arguments.dataset]
    methods, size = catalogue.methods, encoder.image_size
    name = bank_id(methods["anomalydino"])
    bank, _ = BankTokens.load(results.bank(dataset.id, encoder.id, arguments.shots, arguments.seed, name))
    manifest, root = read_manifest(results.manifest(dataset.id)), image_root(results.located(dataset))
    features = np.load(results.features(dataset.id, encoder.id), mmap_mode="r")
    categories = np.array([row.category for row in manifest.test])

    patchcore = methods["patchcore"].model_copy(update={"dimensions": None, "coreset": 1.0})
    dino = methods["anomalydino"]
    worst = 0.0
    print(
        f"{'category':<16}{'what':<34}{'I-AUROC ours':>13}{'theirs':>9}{'P-AUROC ours':>14}{'theirs':>9}{'patches':>10}"
    )
    # From here on, imports find their code.
    sys.path += [str(path) for path in (arguments.anomalydino, arguments.anomalib) if path is not None]
    for category in sorted(set(categories)):
        rows = np.flatnonzero(categories == category)
        part = bank.of(category)
        preparation = Preparation.of(encoder.tokens, part.normal)
        normal, tokens = preparation.apply(part.normal), preparation.apply(features[rows])
        labels = np.array([manifest.test[row].label for row in rows])
        drawn = arguments.shots
        plain = BankTokens(normal[:drawn], [category] * drawn, normal[:0], normal[:0], [])
        compared: list[tuple[str, Scores, Scores]] = []
        if arguments.anomalib:
            theirs = anomalib_patchcore(normal[:drawn], tokens, 1)
            compared.append(("PatchCore, whole memory", ours(patchcore, plain, tokens), theirs))
            tenth = patchcore.model_copy(update={"coreset": 0.1})
            torch.manual_seed(0)
            theirs = anomalib_patchcore(normal[:drawn], tokens, 0.1)
            compared.append(("PatchCore, coreset of a tenth (*)", ours(tenth, plain, tokens), theirs))
        if arguments.anomalydino:
            turned = BankTokens(normal, [category] * len(normal), normal[:0], normal[:0], [])
            for mask in (False, True):
                method = dino.model_copy(update={"mask": mask})
                # The mask's threshold is for DINOv2's longer tokens; the length does not change cosines.
                longer = np.float32(SCALE) * tokens
                found = ours(method, turned, longer), anomalydino(normal, longer, mask)
                compared.append((f"AnomalyDINO, {'masked' if mask else 'no mask'}", *found))
        for what, own, other in compared:
            image = [float(roc_auc_score(labels, scores[1])) for scores in (own, other)]
            pixel = [p_auroc(manifest, root, rows, scores, size) for scores in (own, other)]
            patches = float(np.abs(own[0] - other[0]).max() / np.abs(other[0]).max())
            numbers = f"{image[0]:>13.4f}{image[1]:>9.4f}{pixel[0]:>14.4f}{pixel[1]:>9.4f}{patches:>10.1e}"
            print(f"{category:<16}{what:<34}{numbers}", flush=True)
            if "(*)" not in what:
                worst = max(worst, abs(image[0] - image[1]), abs(pixel[0] - pixel[1]))
        if arguments.anomalib:
            vectors = project(normal[:drawn].reshape(-1, normal.shape[2]), 128, 0)
            equal = greedy_k_centre(vectors, len(vectors) // 10).tolist() == anomalib_coreset(
                vectors, len(vectors) // 10, 0
            )
            verdict = "equal" if equal else "DIFFERENT"
            print(f"{category:<16}coreset of the same projection, from the same start: {verdict}", flush=True)
    print(f"largest difference of an AUROC: {worst:.6f}")
    if arguments.anomalib:
        print("(*) another random projection and start, hence another memory: not counted")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
