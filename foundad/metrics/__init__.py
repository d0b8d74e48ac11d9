"""Every metric of one category, under both protocols side by side.

``strict``: masks binarised at original resolution, nearest resizing, exact curves. ``released``: as the authors' published
code scores. Image-level metrics need no masks. What is undefined is absent with a reason, never 0.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from foundad.metrics.maps import nearest_mask, soft_mask, upsample
from foundad.metrics.pro import region_weights, released_pro
from foundad.metrics.ranking import Ordering, auroc, average_precision, curve_area, f1_max, order

BATCH = 16


@dataclass(frozen=True)
class Value:
    """One metric of one category: its value in [0,1], or None and why."""

    metric: str
    value: float | None
    reason: str | None = None


def evaluate_category(
    image_scores: np.ndarray,
    labels: np.ndarray,
    patch_scores: np.ndarray,
    load_mask: Callable[[int], np.ndarray | None],
    has_masks: bool,
    size: tuple[int, int],
) -> list[Value]:
    """All metrics of one category.

    Args:
        image_scores: [n]. labels: [n], 1 = anomalous. patch_scores: [n,h,w], higher = more anomalous.
        load_mask: gives the original 0/1 mask [H,W] of image i, None for normal images.
        has_masks: false leaves the pixel metrics out.
        size: height and width of the maps and masks that are compared.
    """
    values = list(_ranked("i_", image_scores[labels == 1], image_scores[labels == 0], "image"))
    if has_masks:
        maps = np.concatenate([upsample(patch_scores[i : i + BATCH], size) for i in range(0, len(labels), BATCH)])
        values += _strict(maps, load_mask, size)
        values += _released(maps, load_mask, size)
    return values


def _strict(maps: np.ndarray, load_mask: Callable[[int], np.ndarray | None], size: tuple[int, int]) -> Iterator[Value]:
    masks = np.zeros(maps.shape, np.uint8)
    for number in range(len(maps)):
        mask = load_mask(number)
        if mask is not None:
            masks[number] = nearest_mask((mask > 0).astype(np.uint8), size)
    weights, _ = region_weights(masks)
    ordering = _order(maps[masks > 0], maps[masks == 0], weights)
    yield from _ranked("strict/p_", ordering, None, "pixel")
    for metric, limit in (("strict/aupro_30", 0.3), ("strict/aupro_05", 0.05)):
        if isinstance(ordering, str):
            yield Value(metric, None, ordering)
        else:
            yield Value(metric, curve_area(ordering.weights, ordering, limit))


def _released(
    maps: np.ndarray, load_mask: Callable[[int], np.ndarray | None], size: tuple[int, int]
) -> Iterator[Value]:
    masks = np.zeros(maps.shape, np.float32)
    for number in range(len(maps)):
        mask = load_mask(number)
        if mask is not None:
            masks[number] = soft_mask((mask > 0).astype(np.uint8), size)
    ordering = _order(maps[masks == 1], maps[masks != 1])
    if isinstance(ordering, str):
        for metric in ("released/p_auroc", "released/p_ap", "released/aupro_30"):
            yield Value(metric, None, ordering)
        return
    yield Value("released/p_auroc", auroc(ordering))
    yield Value("released/p_ap", average_precision(ordering))
    pro = released_pro(maps, masks)
    yield Value("released/aupro_30", pro, None if pro is not None else "all kept false-positive rates are equal")


def _ranked(
    prefix: str, positives: "np.ndarray | Ordering | str", negatives: np.ndarray | None, unit: str
) -> Iterator[Value]:
    ordering = _order(positives, negatives, unit=unit) if isinstance(positives, np.ndarray) else positives
    if isinstance(ordering, str):
        for name in ("auroc", "ap", "f1max"):
            yield Value(prefix + name, None, ordering)
        return
    yield Value(prefix + "auroc", auroc(ordering))
    yield Value(prefix + "ap", average_precision(ordering))
    yield Value(prefix + "f1max", f1_max(ordering)[0])


def _order(
    positives: np.ndarray, negatives: np.ndarray | None, weights: np.ndarray | None = None, unit: str = "pixel"
) -> Ordering | str:
    """The ordering, or why there is none."""
    assert negatives is not None
    if not len(positives):
        return f"no anomalous {unit}"
    if not len(negatives):
        return f"no normal {unit}"
    if not (np.isfinite(positives).all() and np.isfinite(negatives).all()):
        return "scores are not finite"
    return order(positives, negatives, weights)
