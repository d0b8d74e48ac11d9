"""Exact ranking metrics of binary problems, for images or pixels, from one shared ordering.

AUROC, average precision, F1 and PRO change only at the score of a positive; between two such scores only false
positives are added. So the distinct positive scores are enough, with the number of negatives above and at each of them.
Ties share one threshold (score >= threshold). Counts are integers, areas float64.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from foundad.metrics.metric import Undefined

PIECE = 1 << 12  # numbers at once, so that temporaries stay in the cache


@dataclass(frozen=True)
class Ranks:
    """Scores in ascending order, and how many others lie below and at each of them.

    thresholds: [K], the distinct scores. first: [K+1] int64, for each of them the number of the first of its ties, and
    the number of all scores. below, tied: [K] int64, how many others are lower and equal. others: how many there are.
    """

    thresholds: np.ndarray
    first: np.ndarray
    below: np.ndarray
    tied: np.ndarray
    others: int


@dataclass(frozen=True)
class Ordering:
    """The distinct positive scores, descending, and what lies at or above each.

    thresholds: [T] float. true_positives: [T] int64, positives >= threshold. weights: [T] float64, summed weights of
    the positives at the threshold. above, at_or_above: [T] int64, negatives > and >= threshold. positives, negatives:
    totals.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    weights: np.ndarray
    above: np.ndarray
    at_or_above: np.ndarray
    positives: int
    negatives: int

    @cached_property
    def gained(self) -> np.ndarray:
        """Number of positives at every threshold, [T] float64."""
        return np.diff(self.true_positives, prepend=0).astype(np.float64)


def rank(ascending: np.ndarray, others: Iterable[np.ndarray]) -> Ranks:
    """Rank finite scores [P] among ``others``: parts [m] of them that need not be in memory together. All ascend."""
    thresholds, first = ascending, np.arange(len(ascending) + 1)
    changes = ascending[1:] != ascending[:-1]
    if not changes.all():
        first = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(ascending)]])
        thresholds = ascending[first[:-1]]
    below, tied = np.zeros(len(thresholds), np.int64), np.zeros(len(thresholds), np.int32)
    total = 0
    for part in others:
        total += len(part)
        start = 0
        for piece in _pieces(len(thresholds)):
            # An ascending search walks through memory once; a piece and what lies between its ends stay in the cache.
            values = thresholds[piece]
            stop = int(np.searchsorted(part, values[-1], side="right"))
            between = part[start:stop]
            found = between.searchsorted(values)
            below[piece] += found + start
            if len(between):
                equal = np.flatnonzero(between.take(found, mode="clip") == values)
                # Most ties are with one; the search is for those that are with more.
                more = between.take(found[equal] + 1, mode="clip") == values[equal]
                ends = found[equal] + 1
                ends[more] = between.searchsorted(values[equal[more]], side="right")
                tied[piece.start + equal] += (ends - found[equal]).astype(np.int32)
            start = stop
    return Ranks(thresholds, first, below, tied, total)


def passing(levels: np.ndarray, parts: Iterable[np.ndarray]) -> np.ndarray:
    """How many scores of ``parts`` [m] float32, which ascend, are above each of ``levels`` [L] float64; [L] int64."""
    # A float32 is above a level if it is above the highest float32 that is not above the level.
    lower = levels.astype(np.float32)
    lower = np.where(lower > levels, np.nextafter(lower, np.float32(-np.inf)), lower)
    counts = [len(part) - part.searchsorted(lower, side="right") for part in parts]
    return np.array(counts, np.int64).sum(axis=0)


def sort_with(scores: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort finite ``scores`` [P] float32 ascending together with ``values`` [P] uint32; ties by value.

    Each pair is one 64-bit integer while it is sorted. That is faster than an indirect sort, and ties have one order.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)  # read as integers, positive floats ascend and negative ones descend
    packed = bits.astype(np.int64)
    packed <<= 32
    packed |= values
    packed.sort()
    values = packed.astype(np.uint32)
    packed >>= 32
    bits = packed.astype(np.int32)
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)
    return bits.view(np.float32), values


def order(positives: np.ndarray, negatives: np.ndarray) -> Ordering:
    """Order finite scores [P] and [M]; every positive weighs 1."""
    return ordering_of(rank(np.sort(positives), [np.sort(negatives)]))


def ordering_of(ranks: Ranks, chosen: np.ndarray | None = None, weights: np.ndarray | None = None) -> Ordering:
    """The ordering whose positives are the ranked scores, or those of them that are ``chosen``.

    Args:
        ranks: of scores [P] among other negatives.
        chosen: [P] bool, in ascending order of the scores; what is not chosen is negative as well. None = all.
        weights: of the scores, [P], in the same order; None = one each.
    """
    thresholds, first, below, tied = ranks.thresholds, ranks.first, ranks.below, ranks.tied
    total = ranks.others + int(first[-1])
    if chosen is not None:
        passed = np.concatenate([[0], np.cumsum(chosen)])[first]
        kept = np.flatnonzero(passed[1:] > passed[:-1])
        # Ranked scores that are not chosen are among the negatives.
        below = (below + first[:-1] - passed[:-1])[kept]
        tied = (tied + np.diff(first) - np.diff(passed))[kept]
        thresholds, first = thresholds[kept], passed[np.append(kept, len(passed) - 1)]
        weights = None if weights is None else weights[chosen]
    positives = int(first[-1])
    # Integers of 32 bits take half the time; no sum of two of these is larger than twice the number of scores.
    dtype = np.int32 if total < 1 << 30 else np.int64
    true_positives = np.subtract(positives, first[-2::-1], dtype=dtype, casting="same_kind")
    at_or_above = np.subtract(total - positives, below[::-1], dtype=dtype, casting="same_kind")
    above = np.subtract(at_or_above, tied[::-1], dtype=dtype, casting="same_kind")
    if weights is None:
        summed = np.diff(first)[::-1].astype(np.float64)
    else:
        summed = (weights if len(first) > len(weights) else np.add.reduceat(weights, first[:-1]))[::-1]
    return Ordering(thresholds[::-1], true_positives, summed, above, at_or_above, positives, total - positives)


def auroc(ordering: Ordering) -> float:
    """Area under the ROC curve; a straight line joins tied scores (scikit-learn, roc_auc_score)."""
    return curve_area(ordering.gained, ordering, limit=1.0) / ordering.positives


def average_precision(ordering: Ordering) -> float:
    """Sum over thresholds of precision times the gain in recall (scikit-learn, average_precision_score)."""
    precision = np.empty(len(ordering.thresholds))
    for piece in _pieces(len(precision)):
        hits = ordering.true_positives[piece]
        np.divide(hits, hits + ordering.at_or_above[piece], out=precision[piece])
    return float(np.dot(ordering.gained, precision) / ordering.positives)


def f1_max(ordering: Ordering) -> tuple[float, float]:
    """The largest F1 over all thresholds, and the highest threshold that reaches it."""
    largest, place = -1.0, 0
    for piece in _pieces(len(ordering.thresholds)):
        hits = ordering.true_positives[piece]
        f1 = 2 * hits / (hits + ordering.at_or_above[piece] + ordering.positives)
        best = int(np.argmax(f1))
        if f1[best] > largest:
            largest, place = float(f1[best]), piece.start + best
    return largest, float(ordering.thresholds[place])


def curve_area(gained: np.ndarray, ordering: Ordering, limit: float) -> float:
    """Area under a curve over the false-positive rate in [0, limit], divided by ``limit``.

    The curve starts at (0, 0), rises by ``gained`` [T] at each threshold, keeps its height while only negatives are
    passed, joins the two ends of a tie with a straight line, and is interpolated linearly at the limit.
    """
    end = limit * ordering.negatives
    inside = int(np.searchsorted(ordering.above, ordering.above.dtype.type(end), side="right"))
    area = 0.0
    # Only thresholds that start within the limit count. What is gained at one counts from there to the limit.
    for piece in _pieces(inside):
        above, at_or_above = ordering.above[piece], ordering.at_or_above[piece]
        spans = end - above
        tied = np.flatnonzero(at_or_above > above)
        # Within a tie it is gained bit by bit.
        width = at_or_above[tied] - above[tied]
        counted = np.minimum(spans[tied], width)
        spans[tied] -= counted - counted * counted / width / 2
        area += float(np.dot(gained[piece], spans))
    return area / ordering.negatives / limit


def _pieces(count: int) -> Iterator[slice]:
    """Slices of ``PIECE`` that cover ``count`` numbers."""
    return (slice(start, min(start + PIECE, count)) for start in range(0, count, PIECE))


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
