"""Per-region overlap (PRO): weights that turn a sum over pixels into a mean over regions; the released variant."""

from typing import TYPE_CHECKING

import numpy as np

from foundad.metrics.metric import Undefined
from foundad.metrics.ranking import curve_area

if TYPE_CHECKING:
    from foundad.metrics.pixels import Pixels

THRESHOLDS = 200  # of the released code
LIMIT = 0.3


def region_weights(masks: np.ndarray, connectivity: int = 8) -> tuple[np.ndarray, int]:
    """Weight of every defective pixel of ``masks`` [n,H,W] (0/1 or bool) in row-major order, and the number of regions.

    A pixel weighs 1 / (area of its region * number of regions), so the weights of the detected pixels add up to PRO.
    """
    from scipy import ndimage  # imported here: costs half a second that collecting and tables do not need

    structure = np.ones((3, 3), bool) if connectivity == 8 else None
    weights: list[np.ndarray] = []
    regions = 0
    for mask in masks:
        if not mask.any():
            continue
        labels, count = ndimage.label(mask, structure)
        found = labels[mask > 0]
        weights.append(1 / np.bincount(found)[found])
        regions += count
    return (np.concatenate(weights) / regions if weights else np.empty(0)), regions


def aupro_30(pixels: "Pixels") -> float:
    """Exact area under PRO up to the false-positive rate 0.3, divided by 0.3."""
    return curve_area(pixels.ordering.weights, pixels.ordering, 0.3)


def aupro_05(pixels: "Pixels") -> float:
    """Exact area under PRO up to the false-positive rate 0.05, divided by 0.05."""
    return curve_area(pixels.ordering.weights, pixels.ordering, 0.05)


def released_aupro_30(pixels: "Pixels") -> float:
    """:class:`ReleasedPro` of a category, part by part."""
    pixels.require()
    lows, highs = zip(*((part.min(), part.max()) for _, part in pixels.maps), strict=True)
    pro = ReleasedPro(float(min(lows)), float(max(highs)), pixels.complement)
    for rows, part in pixels.maps:
        pro.add(part, pixels.masks[rows])
    value = pro.value()
    if value is None:
        raise Undefined("all kept false-positive rates are equal")
    return value


class ReleasedPro:
    """PRO as FoundAD's released code integrates it, part by part.

    200 equidistant thresholds between the extreme scores (score > threshold). Points with FPR <= ``limit`` are kept,
    and their FPR is stretched from its own extremes to [0,1].

    Args:
        low, high: the extreme scores of all maps.
        complement: sum of 1 - mask over all pixels of the soft masks, the released code's number of normal pixels.
    """

    def __init__(self, low: float, high: float, complement: float, limit: float = LIMIT) -> None:
        self.thresholds = np.linspace(low, high, THRESHOLDS)
        self.complement = complement
        self.limit = limit
        self.false = np.zeros(THRESHOLDS + 1)
        self.covered = np.zeros(THRESHOLDS + 1)
        self.regions = 0

    def add(self, maps: np.ndarray, masks: np.ndarray) -> None:
        """Add maps [b,H,W] float32 with masks [b,H,W] bool, which are true where a soft mask is exactly 1."""
        weights, regions = region_weights(masks)
        self.regions += regions
        for image, mask in zip(maps, masks, strict=True):
            # Every pixel whose soft mask is below 1 counts as one false positive.
            self.false += np.bincount(self._passed(image[~mask]), minlength=THRESHOLDS + 1)
        passed = self._passed(maps[masks])
        self.covered += np.bincount(passed, weights * regions, minlength=THRESHOLDS + 1)

    def _passed(self, scores: np.ndarray) -> np.ndarray:
        """How many thresholds lie strictly below each score."""
        low, high = self.thresholds[0], self.thresholds[-1]
        if high <= low:
            return np.zeros(scores.shape, np.intp)
        exact = scores.astype(np.float64)
        # The spacing gives the number up to rounding; one comparison to either side makes it exact.
        guess = np.clip(((exact - low) * ((THRESHOLDS - 1) / (high - low))).astype(np.intp) + 1, 1, THRESHOLDS)
        guess -= self.thresholds[guess - 1] >= exact
        return guess + (self.thresholds[np.minimum(guess, THRESHOLDS - 1)] < exact) * (guess < THRESHOLDS)

    def value(self) -> float | None:
        """The area in [0,1]; None if it is undefined."""
        if not self.regions:
            return None
        # Entry k of a reversed cumulative sum: what passed at least k thresholds.
        false = self.false[::-1].cumsum()[::-1][1:] / self.complement
        pro = self.covered[::-1].cumsum()[::-1][1:] / self.regions
        kept = false <= self.limit
        false, pro = false[kept], pro[kept]
        if len(false) < 2:
            return 0.0
        spread = false.max() - false.min()
        if spread == 0:
            return None
        stretched = (false - false.min()) / spread
        return float(np.trapezoid(pro[::-1], stretched[::-1]))


def released_pro(maps: np.ndarray, masks: np.ndarray, limit: float = LIMIT) -> float | None:
    """:class:`ReleasedPro` of maps [n,H,W] float32 and soft masks [n,H,W] in [0,1] at once."""
    soft = np.asarray(masks, np.float64)
    pro = ReleasedPro(float(maps.min()), float(maps.max()), float((1 - soft).sum()), limit)
    pro.add(maps, soft == 1)
    return pro.value()
