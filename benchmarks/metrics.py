"""Compares our exact pixel metrics with the straightforward ways, in one run on one thread.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py [--images 80] [--size 512] [--rounds 3] [--against COMMIT]
    OMP_NUM_THREADS=1 python benchmarks/metrics.py --streaming --images 2000

The maps are smooth noise; a fifth of the area of every second image is defective, in several regions; a second, shorter
comparison has a twentieth. Times are processor time, the best of interleaved rounds. torchmetrics and adeval take part
if they are installed. With ``--against``, the stage ``evaluate`` is compared with that of another commit as well
(benchmarks/evaluation.py).
"""

import argparse
import importlib.util
import resource
import sys
import time
from collections.abc import Callable

import evaluation
import numpy as np
from harness import Figures
from scipy import ndimage
from skimage import measure
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from foundad.metrics.category import Category, evaluate_category
from foundad.metrics.masks import defects_of, find_defects
from foundad.metrics.pimo import aupimo
from foundad.metrics.pixels import Maps, Pixels, Scene
from foundad.metrics.pro import aupro
from foundad.metrics.ranking import auroc, average_precision, f1_max


def scene(images: int, size: int, share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Maps [n,S,S] float32 and masks [n,S,S] bool; ``share`` of the area of every second image is defective."""
    generator = np.random.default_rng(0)
    maps = np.empty((images, size, size), np.float32)
    masks = np.zeros((images, size, size), bool)
    for number in range(images):
        maps[number] = ndimage.gaussian_filter(generator.normal(size=(size, size)), 3) * 10
        if number % 2 == 0:
            relief = ndimage.gaussian_filter(generator.normal(size=(size, size)), size / 16)
            masks[number] = relief > np.quantile(relief, 1 - share)
            maps[number] += masks[number] * np.float32(1.0)
    return maps, masks


def pixels_of(maps: np.ndarray, masks: np.ndarray) -> Pixels:
    """The pixels as the protocol ``strict`` sees them; regions are found anew."""
    size = (maps.shape[1], maps.shape[2])
    return Scene(Maps(maps, size, 0.0), defects_of(masks, size), ~masks.any(axis=(1, 2))).under("strict")


def ours(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """All five exact metrics from one ordering."""
    pixels = pixels_of(maps, masks)
    return {
        "P-AUROC": auroc(pixels.ordering),
        "P-AP": average_precision(pixels.ordering),
        "P-F1max": f1_max(pixels.ordering)[0],
        "AUPRO@0.3": aupro(pixels, 0.3),
        "AUPRO@0.05": aupro(pixels, 0.05),
    }


def ours_aupimo(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """AUPIMO alone."""
    return {"AUPIMO": aupimo(pixels_of(maps, masks))}


def loop(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """The field's usual PRO: 200 thresholds, one pass over all pixels for each, regions by skimage."""
    low, high = maps.min(), maps.max()
    points = []
    for threshold in np.linspace(low, high, 200):
        detected = maps > threshold
        overlaps = []
        for mask, found in zip(masks, detected, strict=True):
            for region in measure.regionprops(measure.label(mask)):
                rows, columns = region.coords[:, 0], region.coords[:, 1]
                overlaps.append(found[rows, columns].sum() / region.area)
        points.append(((detected & ~masks).sum() / (~masks).sum(), np.mean(overlaps)))
    rates, pro = np.array(points).T
    kept = rates <= 0.3
    stretched = rates[kept] / rates[kept].max()
    return {"AUPRO@0.3": float(np.trapezoid(pro[kept][::-1], stretched[::-1]))}


def sklearn_metrics(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """AUROC, AP and F1 by scikit-learn."""
    labels, scores = masks.ravel().astype(np.int64), maps.ravel()
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return {
        "P-AUROC": float(roc_auc_score(labels, scores)),
        "P-AP": float(average_precision_score(labels, scores)),
        "P-F1max": float(f1.max()),
    }


def torchmetrics_metrics(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """AUROC and AP by torchmetrics."""
    import torch
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    # It applies a sigmoid to scores outside [0,1], which merges high ones: scale them first.
    scores = torch.from_numpy((maps - maps.min()) / (maps.max() - maps.min())).flatten()
    labels = torch.from_numpy(masks).flatten().int()
    return {"P-AUROC": float(binary_auroc(scores, labels)), "P-AP": float(binary_average_precision(scores, labels))}


def adeval_metrics(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """adeval's histogram of 1000 bins: approximate AUROC, area under the precision-recall curve, AUPRO."""
    from adeval import auroc_aupr_aupro

    if not hasattr(np, "trapz"):  # it is older than numpy 2
        np.trapz = np.trapezoid  # type: ignore[attr-defined]
    names = ("P-AUROC", "P-AP by trapezoids", "AUPRO@0.3")
    return dict(zip(names, map(float, auroc_aupr_aupro(maps, masks.astype(np.uint8))), strict=True))


def sort_all(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """The floor: numpy's sort of all pixels."""
    np.sort(maps.ravel())
    return {}


def streaming(images: int, size: int) -> None:
    """Print time and peak memory of all metrics of one category with many images, from patch scores."""
    generator = np.random.default_rng(0)
    patch_scores = generator.normal(size=(images, 32, 32)).astype(np.float32)
    mask = np.zeros((size, size), np.uint8)
    mask[: size // 4, : size // 8] = 1
    labels = np.arange(images) % 2
    start = time.perf_counter()
    defects = find_defects((mask if label else None for label in labels), (size, size))
    evaluate_category(Category(patch_scores.max((1, 2)), labels, patch_scores, defects))
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"streaming {images} images of {size} x {size}: {seconds:.1f} s, peak {peak:.2f} GiB")


def main() -> None:
    """Print one line per way: seconds, ratio to ours, values."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-loop", action="store_true", help="leave out the slow competitors")
    parser.add_argument("--against", metavar="COMMIT", help="whose evaluation is compared with ours")
    parser.add_argument("--streaming", action="store_true", help="measure only peak memory, with --images images")
    options = parser.parse_args()
    if options.streaming:
        streaming(options.images, options.size)
        return
    maps, masks = scene(options.images, options.size)
    print(f"{options.images} maps of {options.size} x {options.size}, {masks.mean():.1%} of the pixels defective")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours(maps, masks)
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / maps.size
    print(f"ours: {extra:.1f} bytes per pixel beyond the maps")
    ways: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, float]]] = {
        "ours, five exact metrics": ours,
        "ours, AUPIMO": ours_aupimo,
        "numpy sort of all pixels": sort_all,
    }
    if not options.without_loop:
        ways |= {"200-step loop": loop, "scikit-learn": sklearn_metrics}
    for name, way in (("torchmetrics", torchmetrics_metrics), ("adeval", adeval_metrics)):
        if importlib.util.find_spec(name) is None:
            print(f"{name}: not installed, left out", file=sys.stderr)
        else:
            ways[name] = way
    best = timed(ways, maps, masks, options.rounds)
    own = best["ours, five exact metrics"]
    if "scikit-learn" in best:
        both = best["200-step loop"] + best["scikit-learn"]
        print(f"200-step loop and scikit-learn together: {both:.1f} s, {both / own:.1f} x ours")
    plain = best["200-step loop"] + best["scikit-learn"] if "scikit-learn" in best else None
    figures = Figures("metrics", f"seconds, {options.images} maps of {options.size} x {options.size}")
    figures.add("five exact metrics", own, plain, best["numpy sort of all pixels"])
    if "adeval" in best:
        maps, masks = scene(options.images, options.size, 0.05)
        few = timed({"ours": ours, "adeval": adeval_metrics}, maps, masks, options.rounds)
        for what, mine, theirs in (("10 %", own, best["adeval"]), ("2.5 %", few["ours"], few["adeval"])):
            figures.add(f"against adeval, {what} defective", mine, theirs, bar="<= 1.0", ratio=mine / theirs)
    figures.finish()
    if options.against:
        evaluation.compare("textures", options.against, options.rounds, ">= 1.5")


def timed(
    ways: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, float]]],
    maps: np.ndarray,
    masks: np.ndarray,
    rounds: int,
) -> dict[str, float]:
    """The best seconds of every way over interleaved rounds; prints them with the values."""
    best: dict[str, float] = {}
    values: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            if name in ("200-step loop", "scikit-learn") and name in best:
                continue  # takes minutes; once is enough
            start = time.process_time()
            values[name] = way(maps, masks)
            best[name] = min(best.get(name, np.inf), time.process_time() - start)
    own = next(iter(best.values()))
    for name, seconds in best.items():
        shown = "  ".join(f"{key} {value:.5f}" for key, value in values[name].items())
        print(f"{name:26} {seconds:8.3f} s  {seconds / own:7.2f} x ours  {shown}")
    return best


if __name__ == "__main__":
    main()
