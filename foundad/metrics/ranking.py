"""Exact ranking metrics of binary problems, for images or pixels, from one shared ordering.

AUROC, average precision, F1 and PRO change only at the score of a positive; between two such scores only false
positives are added. So the distinct positive scores are enough, with the number of negatives above and at each of them.
Ties share one threshold (score >= threshold). Counts are integers, areas float64.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foundad.metrics.metric import Undefined

PIECE = 1 << 18


@dataclass(frozen=True)
class Ordering:
    """The distinct positive scores, descending, and what lies at or above each.

    thresholds: [T] float. true_positives: [T] integer, positives >= threshold. weights: [T] float64, summed weights of
    the positives >= threshold. above, at_or_above: [T] int64, negatives > and >= threshold. positives, negatives:
    totals.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    weights: np.ndarray
    above: np.ndarray
    at_or_above: np.ndarray
    positives: int
    negatives: int


def order(
    positives: np.ndarray, negatives: np.ndarray | Iterable[np.ndarray], weights: np.ndarray | None = None
) -> Ordering:
    """Order finite scores.

    Args:
        positives: [P].
        negatives: [M], or parts of them that need not be in memory together; sorted in place.
        weights: of the positives, [P]; None = one each.
    """
    if weights is None:
        ascending = np.sort(positives)
        descending_weights = None
    else:
        by_score = np.argsort(positives)
        ascending = positives[by_score]
        descending_weights = weights[by_score[::-1]]
        del by_score
    count = len(positives)
    del positives, weights  # if the caller does not keep them either, their memory is free for the negatives
    # The first of every tie stands for all: the positives from it on lie at or above it.
    first = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))[::-1]
    thresholds = ascending[first]
    true_positives = (count - first).astype(np.int32 if count < 1 << 31 else np.int64)
    del ascending, first
    if descending_weights is None:
        summed = true_positives.astype(np.float64)
    else:
        summed = np.cumsum(descending_weights, dtype=np.float64, out=descending_weights)[true_positives - 1]
    del descending_weights
    above = np.zeros(len(thresholds), np.int64)
    tied = np.zeros(len(thresholds), np.int32)
    total = 0
    for part in [negatives] if isinstance(negatives, np.ndarray) else negatives:
        part.sort()
        total += len(part)
        # An ascending search walks through memory once; pieces keep temporaries small.
        for end in range(len(thresholds), 0, -PIECE):
            piece = slice(max(0, end - PIECE), end)
            values = thresholds[piece][::-1]
            below = np.searchsorted(part, values)
            above[piece] += (len(part) - below)[::-1]
            hit = np.flatnonzero(part[np.minimum(below, len(part) - 1)] == values)
            if len(hit):
                equal = np.searchsorted(part, values[hit], side="right") - below[hit]
                tied[end - 1 - hit] += equal.astype(np.int32)
                above[end - 1 - hit] -= equal
        del part
    return Ordering(thresholds, true_positives, summed, above, above + tied, count, total)


def auroc(ordering: Ordering) -> float:
    """Area under the ROC curve; a straight line joins tied scores (scikit-learn, roc_auc_score)."""
    return curve_area(ordering.true_positives / ordering.positives, ordering, limit=1.0)


def average_precision(ordering: Ordering) -> float:
    """Sum over thresholds of precision times the gain in recall (scikit-learn, average_precision_score)."""
    hits = ordering.true_positives
    gained = np.diff(hits, prepend=0)
    return float(np.dot(gained, hits / (hits + ordering.at_or_above)) / ordering.positives)


def f1_max(ordering: Ordering) -> tuple[float, float]:
    """The largest F1 over all thresholds, and the highest threshold that reaches it."""
    hits = ordering.true_positives.astype(np.float64)
    f1 = 2 * hits / (hits + ordering.at_or_above + ordering.positives)
    best = int(np.argmax(f1))
    return float(f1[best]), float(ordering.thresholds[best])


def curve_area(heights: np.ndarray, ordering: Ordering, limit: float) -> float:
    """Area under ``heights`` [T] over the false-positive rate in [0, limit], divided by ``limit``.

    The curve starts at (0, 0), keeps its height while only negatives are passed, joins the two ends of a tie with a
    straight line, and is interpolated linearly at the limit.
    """
    # Only thresholds that start within the limit count.
    inside = int(np.searchsorted(ordering.above, limit * ordering.negatives, side="right"))
    above, at_or_above = ordering.above[:inside], ordering.at_or_above[:inside]
    heights = heights[:inside]
    if not inside:
        return 0.0
    before = np.concatenate([[0.0], heights[:-1]])
    widths = np.diff(above, append=limit * ordering.negatives)  # from here to where the next threshold begins
    area = float(np.dot(heights, widths))
    # Between the two ends of a tie the line lies below the step that was counted.
    tied = np.flatnonzero(at_or_above > above)
    width = (at_or_above - above)[tied].astype(np.float64)
    counted = np.minimum(at_or_above[tied], limit * ordering.negatives) - above[tied]
    rise = heights[tied] - before[tied]
    area -= float(np.sum(rise * counted - rise * counted * counted / width / 2))
    return area / ordering.negatives / limit


class Ranked(Protocol):
    """What has an order: the images of a category, or its pixels under one protocol.

    ``ordering`` raises :class:`foundad.metrics.metric.Undefined` where there is none.
    """

    @property
    def ordering(self) -> Ordering: ...


def ranked_auroc(ranked: Ranked) -> float:
    """:func:`auroc` of images or pixels."""
    return auroc(ranked.ordering)


def ranked_ap(ranked: Ranked) -> float:
    """:func:`average_precision` of images or pixels."""
    return average_precision(ranked.ordering)


def ranked_f1max(ranked: Ranked) -> float:
    """The value of :func:`f1_max` of images or pixels."""
    return f1_max(ranked.ordering)[0]


def ranked_f1max_threshold(ranked: Ranked) -> float:
    """The threshold of :func:`f1_max` of images or pixels. If there is none, the metric of the largest F1 says why."""
    try:
        return f1_max(ranked.ordering)[1]
    except Undefined:
        raise Undefined from None
