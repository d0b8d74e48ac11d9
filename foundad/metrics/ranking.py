"""Exact ranking metrics of binary problems, at image or pixel level, from one shared ordering.

All of AUROC, average precision, F1 and PRO change only where a positive's score is passed: between two such scores only
false positives are added. So the positives are sorted, and of the negatives nothing is needed but how many lie above and
at each positive score. Ties share one threshold (score >= threshold). Counts are integers, areas float64.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ordering:
    """The distinct positive scores, descending, and what lies at or above each.

    thresholds: [T] float. true_positives: [T] int64, positives >= threshold. weights: [T] float64, sum of the positives'
    weights >= threshold. above, at_or_above: [T] int64, negatives > and >= threshold. positives, negatives: totals.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    weights: np.ndarray
    above: np.ndarray
    at_or_above: np.ndarray
    positives: int
    negatives: int


def order(positives: np.ndarray, negatives: np.ndarray, weights: np.ndarray | None = None) -> Ordering:
    """Order finite scores; ``negatives`` [M] is sorted in place, ``positives`` [P] have ``weights`` [P] or one each."""
    negatives.sort()
    by_score = np.argsort(positives, kind="stable")[::-1] if weights is not None else None
    descending = positives[by_score] if by_score is not None else np.sort(positives)[::-1]
    last = (
        np.flatnonzero(np.append(descending[1:] != descending[:-1], True)) if len(descending) else np.empty(0, np.intp)
    )
    thresholds = descending[last]
    true_positives = (last + 1).astype(np.int64)
    if weights is None or by_score is None:
        summed = true_positives.astype(np.float64)
    else:
        summed = np.cumsum(weights[by_score], dtype=np.float64)[last]
    total = len(negatives)
    return Ordering(
        thresholds,
        true_positives,
        summed,
        (total - np.searchsorted(negatives, thresholds, side="right")).astype(np.int64),
        (total - np.searchsorted(negatives, thresholds, side="left")).astype(np.int64),
        len(positives),
        total,
    )


def auroc(ordering: Ordering) -> float:
    """Area under the ROC curve, tied scores joined by a straight line (scikit-learn, roc_auc_score)."""
    return curve_area(ordering.true_positives / ordering.positives, ordering, limit=1.0)


def average_precision(ordering: Ordering) -> float:
    """Sum of precision times the step of recall (scikit-learn, average_precision_score)."""
    hits = ordering.true_positives
    gained = np.diff(hits, prepend=0)
    return float(np.sum(gained * (hits / (hits + ordering.at_or_above))) / ordering.positives)


def f1_max(ordering: Ordering) -> tuple[float, float]:
    """The largest F1 over all thresholds, and the highest threshold that reaches it."""
    hits = ordering.true_positives
    f1 = 2 * hits / (hits + ordering.at_or_above + ordering.positives)
    best = int(np.argmax(f1))
    return float(f1[best]), float(ordering.thresholds[best])


def curve_area(heights: np.ndarray, ordering: Ordering, limit: float) -> float:
    """Area under ``heights`` [T] over the false-positive rate in [0, limit], divided by ``limit``.

    The curve starts at (0, 0), keeps its height while only negatives are passed, joins the two ends of a tie by a
    straight line, and is interpolated linearly at the limit.
    """
    before = np.concatenate([[0.0], heights[:-1]])
    left = ordering.above / ordering.negatives
    right = ordering.at_or_above / ordering.negatives
    starts = np.concatenate([[0.0], right[:-1]])
    flat = before * (np.minimum(left, limit) - np.minimum(starts, limit))
    tied = np.minimum(right, limit) - np.minimum(left, limit)
    width = right - left
    share = np.divide(tied, width, out=np.zeros_like(tied), where=width > 0)
    sloped = tied * (before + share * (heights - before) / 2)
    rest = heights[-1] * max(0.0, limit - float(right[-1]))
    return float((np.sum(flat) + np.sum(sloped) + rest) / limit)
