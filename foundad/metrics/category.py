"""Computes every metric of one category: image metrics, and pixel metrics under every protocol.

:mod:`foundad.metrics.registry` lists the metrics. An undefined metric is None with a reason, never 0.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from foundad.metrics.defects import Defects
from foundad.metrics.metric import PROTOCOLS, Undefined
from foundad.metrics.pixels import Maps, Scene
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

    image_scores: [n]. labels: [n], 1 = anomalous. patch_scores: [n,h,w], higher = more anomalous. defects: of the images
    at the size at which maps and masks are compared; None if the dataset has no masks: then there are no pixel metrics.
    smoothing: deviation of a Gaussian over the maps, in pixels of that size; 0 = none (as published). device: where
    pixels are sorted, ``cpu`` by numpy, any other by torch. windows: [n,4], where each picture lies on its patches, see
    :func:`foundad.metrics.maps.upsample`. thresholds: [n], image score above which the model calls an image anomalous;
    NaN or None where it has none.
    """

    image_scores: np.ndarray
    labels: np.ndarray
    patch_scores: np.ndarray
    defects: Defects | None
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
    if category.defects is not None:
        scene = scene_of(category, category.defects)
        for protocol in PROTOCOLS:
            pixels = scene.under(protocol)
            values += _values(protocol, pixels, pixels.remark)
    return values


def scene_of(category: Category, defects: Defects) -> Scene:
    """The pixels of ``category``."""
    maps = Maps(category.patch_scores, defects.size, category.smoothing, category.windows)
    normal = np.asarray(category.labels) == 0
    if category.device == "cpu":
        return Scene(maps, defects, normal)
    from foundad.metrics.on_device import DeviceScene  # imports torch

    return DeviceScene(maps, defects, normal, category.device)


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
