"""Per-region overlap (PRO): the exact area, and the area as FoundAD's released code integrates it."""

from typing import TYPE_CHECKING

import numpy as np

from foundad.metrics.metric import Undefined
from foundad.metrics.ranking import curve_area

if TYPE_CHECKING:
    from foundad.metrics.pixels import Pixels

THRESHOLDS = 200  # of the released code
LIMIT = 0.3
PIECE = 1 << 14  # scores at once, so that temporaries stay in the cache


def aupro_30(pixels: "Pixels") -> float:
    """Exact area under PRO up to the false-positive rate 0.3, divided by 0.3."""
    return aupro(pixels, 0.3)


def aupro_05(pixels: "Pixels") -> float:
    """Exact area under PRO up to the false-positive rate 0.05, divided by 0.05."""
    return aupro(pixels, 0.05)


def aupro(pixels: "Pixels", limit: float) -> float:
    """Exact area under PRO up to the false-positive rate ``limit``, divided by ``limit``.

    PRO is the mean over regions of the covered share: every detected pixel adds 1 / (area of its region * regions).
    """
    return curve_area(pixels.ordering.weights, pixels.ordering, limit) / pixels.count


def released_aupro_30(pixels: "Pixels", limit: float = LIMIT) -> float:
    """PRO as FoundAD's released code integrates it.

    200 equidistant thresholds between the extreme scores (score > threshold). Points with FPR <= ``limit`` are kept,
    and their FPR is stretched from its own extremes to [0,1]. The number of normal pixels is the sum of 1 - mask over
    all pixels of the soft masks.

    Raises:
        Undefined: there is no such area; the message says why.
    """
    pixels.require()
    scene = pixels.scene
    thresholds = np.linspace(*scene.extremes, THRESHOLDS)
    chosen = (pixels.regions > 0)[scene.runs]
    # Entry k of a reversed cumulative sum: what passed at least k thresholds. A pixel whose soft mask is below 1 counts
    # as one false positive.
    passed = thresholds_below(scene.scores, thresholds)
    false = np.bincount(passed[~chosen], minlength=THRESHOLDS + 1)[::-1].cumsum()[::-1][1:] + scene.passing(thresholds)
    covered = np.bincount(passed[chosen], pixels.weights[scene.runs][chosen], THRESHOLDS + 1)
    rates = false / scene.defects.soft.sum()
    pro = covered[::-1].cumsum()[::-1][1:] / pixels.count
    kept = rates <= limit
    rates, pro = rates[kept], pro[kept]
    if len(rates) < 2:
        return 0.0
    spread = rates.max() - rates.min()
    if spread == 0:
        raise Undefined("all kept false-positive rates are equal")
    return float(np.trapezoid(pro[::-1], ((rates - rates.min()) / spread)[::-1]))


def thresholds_below(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of ``thresholds`` [L] float64, equidistant and ascending, lie strictly below each score [P]; int16."""
    low, high, count = thresholds[0], thresholds[-1], len(thresholds)
    found = np.zeros(len(scores), np.int16)
    for start in range(0, len(scores) if high > low else 0, PIECE):
        exact = scores[start : start + PIECE].astype(np.float64)
        # The spacing gives the number up to rounding; one comparison to either side makes it exact.
        guess = np.clip(((exact - low) * ((count - 1) / (high - low))).astype(np.intp) + 1, 1, count)
        guess -= thresholds[guess - 1] >= exact
        guess += (thresholds[np.minimum(guess, count - 1)] < exact) & (guess < count)
        found[start : start + PIECE] = guess
    return found
