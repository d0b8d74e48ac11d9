"""What the spread over seeds and categories supports: intervals, paired comparisons, ranks.

Works on plain numbers; :mod:`foundad.report` and ``foundad compare`` choose which. Only the bootstrap is random, and
its generator is fixed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
SIGNIFICANT = 0.05  # p below it, after correction
RESAMPLES = 10_000
GROUP_RESAMPLES = 2_000
AT_ONCE = 1_000_000  # resampled values in memory


@dataclass(frozen=True)
class Interval:
    """Ends of a confidence interval of the mean at the level 0.95."""

    low: float
    high: float


Estimate = tuple[float, Interval]


@dataclass(frozen=True)
class Comparison:
    """Paired comparison b - a over ``pairs`` pairs: mean difference, its bootstrap interval, two-sided Wilcoxon p."""

    difference: float
    interval: Interval
    p: float
    pairs: int


def t_interval(values: Sequence[float]) -> Interval | None:
    """Student's interval of the mean; None for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Interval(mean - half, mean + half)


def bootstrap_interval(values: Sequence[float]) -> Interval | None:
    """Percentile bootstrap interval of the mean (Efron); None for fewer than two values."""
    if len(values) < 2:
        return None
    array = np.asarray(values, np.float64)
    generator = np.random.default_rng(0)
    rows = max(1, AT_ONCE // len(array))  # a thousand values would take 160 MB at once
    parts = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    means = np.concatenate([array[generator.integers(0, len(array), (n, len(array)))].mean(axis=1) for n in parts])
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def compare(a: Sequence[float], b: Sequence[float]) -> Comparison | None:
    """Paired comparison of ``b`` against ``a``, pair by pair; None for fewer than two pairs.

    Wilcoxon's signed-rank test, exact for few pairs without ties. Pairs without a difference are ranked too, and count
    half for either side (scipy's zsplit). Without any difference p is 1.
    """
    if len(a) != len(b):
        raise ValueError("pairs need two values each")
    differences = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    # Differences by rounding count as zero; otherwise they would be ranked like any other.
    differences[np.abs(differences) < 1e-12] = 0.0
    interval = bootstrap_interval(differences.tolist())
    if interval is None:
        return None
    p = 1.0 if not differences.any() else float(stats.wilcoxon(differences, zero_method="zsplit").pvalue)
    return Comparison(float(differences.mean()), interval, p, len(differences))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm, 1979), in the given order, at most 1."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True)
class Ranking:
    """Mean ranks (1 = best) over blocks, Friedman's p, and Nemenyi's critical difference of mean ranks at 0.05.

    groups: methods, best first, that lie within the critical difference of each other; groups inside a larger one are
    left out.
    """

    mean_ranks: dict[str, float]
    friedman_p: float
    critical_difference: float
    blocks: int
    groups: list[list[str]]


def rank(values: dict[str, Sequence[float]], higher_is_better: bool = True) -> Ranking | None:
    """Rank methods that have a value in every block (Demšar, JMLR 2006); None below three methods or two blocks."""
    names = list(values)
    table = np.array([values[name] for name in names], np.float64).T
    if len(names) < 3 or table.shape[0] < 2:
        return None
    ranks = stats.rankdata(-table if higher_is_better else table, axis=1).mean(axis=0)
    blocks, count = table.shape
    constant = bool((table == table[:, :1]).all())
    p = 1.0 if constant else float(stats.friedmanchisquare(*table.T).pvalue)
    quantile = float(stats.studentized_range.ppf(LEVEL, count, np.inf)) / math.sqrt(2)
    difference = quantile * math.sqrt(count * (count + 1) / (6 * blocks))
    order = [names[index] for index in np.argsort(ranks, kind="stable")]
    mean_ranks = dict(sorted(zip(names, map(float, ranks), strict=True), key=lambda item: order.index(item[0])))
    groups: list[list[str]] = []
    for start, name in enumerate(order):
        group = [other for other in order[start:] if mean_ranks[other] - mean_ranks[name] <= difference]
        if len(group) > 1 and not any(set(group) <= set(known) for known in groups):
            groups.append(group)
    return Ranking(mean_ranks, p, difference, blocks, groups)


def association(x: Sequence[float], y: Sequence[float], groups: Sequence[str]) -> tuple[Estimate, Estimate]:
    """Spearman's rho and the R^2 of a straight line through (x, y), each with its bootstrap interval.

    Whole groups (such as the points of one image) are resampled, because their points are not independent.
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    labels, codes = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(codes == code) for code in range(len(labels))]
    generator = np.random.default_rng(0)
    found = np.array(
        [
            _association(xs[rows], ys[rows])
            for rows in (
                np.concatenate([members[group] for group in generator.integers(0, len(members), len(members))])
                for _ in range(GROUP_RESAMPLES)
            )
        ]
    )
    lows, highs = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    rho, fit = _association(xs, ys)
    return (rho, Interval(float(lows[0]), float(highs[0]))), (fit, Interval(float(lows[1]), float(highs[1])))


def _association(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    rho = float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])
    return rho, float(np.corrcoef(x, y)[0, 1]) ** 2
