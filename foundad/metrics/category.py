"""Computes every metric of one category: image metrics, and pixel metrics under every protocol.

:mod:`foundad.metrics.registry` lists the metrics. An undefined metric is None with a reason, never 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from foundad.data.masks import resize_mask
from foundad.metrics.maps import soft_mask
from foundad.metrics.metric import Undefined
from foundad.metrics.pixels import Maps, Masks, Pixels
from foundad.metrics.ranking import Ordering, order


@dataclass(frozen=True)
class Value:
    """One metric of one category: its value (a share in [0,1], or a score if the registry says so), or None and why.

    Beside a value, ``reason`` is a remark for readers, such as defects that have no pixel at the evaluation size.
    """

    metric: str
    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Category:
    """The test images of one category: their scores and their ground truth.

    image_scores: [n]. labels: [n], 1 = anomalous. patch_scores: [n,h,w], higher = more anomalous. load_mask: returns
    the original 0/1 mask [H,W] of image i, or None for a normal image; called once per image. It is None if the dataset
    has no masks; then there are no pixel metrics. size: height and width in pixels of the maps and masks that are
    compared. smoothing: deviation of a Gaussian over the maps, in pixels of ``size``; 0 = none (as published). device:
    where pixels are ordered, ``cpu`` by numpy, any other by torch. windows: [n,4], where each picture lies on its
    patches, see :func:`foundad.metrics.maps.upsample`. thresholds: [n], image score above which the model calls an
    image anomalous; NaN or None where it has none.
    """

    image_scores: np.ndarray
    labels: np.ndarray
    patch_scores: np.ndarray
    load_mask: Callable[[int], np.ndarray | None] | None
    size: tuple[int, int]
    smoothing: float = 0.0
    device: str = "cpu"
    windows: np.ndarray | None = None
    thresholds: np.ndarray | None = None

    @cached_property
    def ordering(self) -> Ordering:
        """All images in one order.

        Raises:
            Undefined: there is no order; the message says why.
        """
        positives, negatives = self.image_scores[self.labels == 1], self.image_scores[self.labels == 0]
        if not len(positives):
            raise Undefined("no anomalous image")
        if not len(negatives):
            raise Undefined("no normal image")
        if not (np.isfinite(positives).all() and np.isfinite(negatives).all()):
            raise Undefined("scores are not finite")
        return order(positives, negatives)


def evaluate_category(category: Category) -> list[Value]:
    """All metrics of one category, in the order of the registry."""
    values = _values("", category)
    if category.load_mask is None:
        return values
    waiting = pixels_of(category, category.load_mask)
    while waiting:
        protocol = next(iter(waiting))
        pixels = waiting.pop(protocol)  # frees the ordering of the previous protocol
        values += _values(protocol, pixels, pixels.masks.remark)
    return values


def pixels_of(category: Category, load_mask: Callable[[int], np.ndarray | None]) -> dict[str, Pixels]:
    """Protocol -> the pixels of ``category`` with the masks of that protocol, in the order of the protocols."""
    size = category.size
    maps = Maps(category.patch_scores, size, category.smoothing, category.windows)
    strict, released = Masks(size), Masks(size)
    complement = 0.0
    for number, label in enumerate(category.labels):
        mask, normal = load_mask(number), not label
        if mask is None:
            strict.append(None, normal)
            released.append(None, normal)
            complement += size[0] * size[1]
            continue
        binary = (mask > 0).astype(np.uint8)
        soft = soft_mask(binary, size)
        strict.append(resize_mask(binary, *size) > 0, normal)
        released.append(soft == 1, normal)
        complement += float((1 - soft).sum(dtype=np.float64))
    return {
        "strict": Pixels(maps, strict, device=category.device),
        "released": Pixels(maps, released, complement, category.device),
    }


def _values(protocol: str, given: Any, remark: str | None = None) -> list[Value]:
    """The metrics of one protocol (empty = image metrics), with a remark for readers if there is one."""
    from foundad.metrics.registry import METRICS  # imported here: its entries may import this file

    values = []
    for metric in METRICS.values():
        if metric.protocol != protocol:
            continue
        try:
            values.append(Value(metric.id, metric.compute(given), remark))
        except Undefined as error:
            if str(error):
                values.append(Value(metric.id, None, f"{error}; {remark}" if remark else str(error)))
    return values
