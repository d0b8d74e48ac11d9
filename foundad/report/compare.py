"""``foundad compare`` and ``foundad rank``: whether methods differ by more than seeds and categories do.

A pair is a (category, seed) of one dataset, encoder and number of shots; both methods have the same draw there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd

from foundad.cells import AXES
from foundad.errors import UserError
from foundad.metrics.registry import METRICS
from foundad.names import nearest
from foundad.paths import Results
from foundad.report.statistics import SIGNIFICANT, Comparison, Ranking, compare, holm, rank
from foundad.sealed import read_run_table

PAIR = ["category", "seed"]
GROUP = [axis for axis in AXES if axis not in ("method", *PAIR)]  # methods are compared within a group
Group = tuple[str | int, ...]  # values of GROUP, and a metric
WIDTHS = {"dataset": 16, "encoder": 28}


@dataclass(frozen=True)
class Row:
    """One line of a comparison: its group and metric, the comparison b - a, and p corrected over all lines."""

    group: Group
    metric: str
    comparison: Comparison
    p: float

    @property
    def worse(self) -> bool:
        """Whether b is significantly worse than a."""
        sign = 1 if METRICS[self.metric].higher_is_better else -1
        return self.p < SIGNIFICANT and sign * self.comparison.difference < 0


def compare_methods(results: Results, a: str, b: str, metrics: Sequence[str]) -> list[Row]:
    """Compare two methods wherever both were run.

    Raises:
        UserError: there are no metrics, a metric or method is unknown, or the methods share fewer than two pairs.
    """
    found = []
    for key, table in _tables(results, [a, b], metrics):
        comparison = compare(table[a].tolist(), table[b].tolist())
        if comparison is not None:
            found.append((key, comparison))
    if not found:
        raise UserError(
            f"{results.metrics}: {a} and {b} share fewer than two pairs; a comparison needs at least two seeds at the same "
            "shots (or two categories) that both have on one dataset and encoder: add to the experiment's key seeds"
        )
    corrected = holm([comparison.p for _, comparison in found])
    return [Row(tuple(key[:-1]), str(key[-1]), c, p) for (key, c), p in zip(found, corrected, strict=True)]


def rank_methods(results: Results, methods: Sequence[str], metric: str) -> Ranking:
    """Rank methods over all blocks (dataset, encoder, shots, category, seed) in which all of them have a value.

    Raises:
        UserError: there are no metrics, a metric or method is unknown, or there are too few methods or blocks.
    """
    values: dict[str, list[float]] = {name: [] for name in methods}
    for _, table in _tables(results, methods, [metric]):
        for name in methods:
            values[name] += table[name].tolist()
    ranking = rank({name: values[name] for name in methods}, METRICS[metric].higher_is_better)
    if ranking is None:
        raise UserError(f"{results.metrics}: a ranking needs three methods that share two categories or seeds")
    return ranking


def check_metrics(metrics: Sequence[str]) -> None:
    """Raise a UserError that suggests the nearest name if one of ``metrics`` does not exist."""
    for metric in metrics:
        if metric not in METRICS:
            raise UserError(f"there is no metric '{metric}'{nearest(metric, METRICS)}")


def _tables(results: Results, methods: Sequence[str], metrics: Sequence[str]) -> list[tuple[Group, pd.DataFrame]]:
    """Per group and metric a table with one column per method, and one row per pair that all have."""
    check_metrics(metrics)
    columns = [*AXES, "category", "metric", "value"]
    frame = cast(pd.DataFrame, read_run_table(results.metrics, columns).to_pandas(use_threads=False))
    known = frame["method"].unique().tolist()
    for name in methods:
        if name not in known:
            raise UserError(f"{results.metrics}: holds no method '{name}'{nearest(name, known)}")
    chosen = frame[frame["method"].isin(methods) & frame["metric"].isin(metrics)].dropna(subset=["value"])
    tables = []
    for key, group in chosen.groupby([*GROUP, "metric"], sort=True):
        table = group.pivot(index=PAIR, columns="method", values="value")
        if all(name in table for name in methods):
            table = table.dropna(subset=list(methods))
            if len(table):
                tables.append((cast(Group, key), table))
    return tables


def as_text(rows: Sequence[Row], a: str, b: str) -> str:
    """The comparison as a plain table; differences and intervals of shares are in percent."""
    lines = [
        f"{b} - {a}, shares in %, interval of 95 % (bootstrap over categories and seeds), p of Wilcoxon after Holm"
    ]
    places = [f"{{:<{WIDTHS[axis]}}}" if axis in WIDTHS else f"{{:>{max(6, len(axis))}}}" for axis in GROUP]
    shape = " ".join([*places, "{:<18} {:>7} {:>17} {:>7} {:>6}"])
    lines.append(shape.format(*GROUP, "metric", "delta", "interval", "p", "pairs"))
    for row in rows:
        c = row.comparison
        unit = 100 if METRICS[row.metric].unit == "share" else 1
        interval = f"[{unit * c.interval.low:+.1f}, {unit * c.interval.high:+.1f}]"
        mark = " worse" if row.worse else " better" if row.p < SIGNIFICANT else ""
        cells = (*row.group, row.metric, f"{unit * c.difference:+.1f}", interval)
        lines.append(shape.format(*cells, f"{row.p:.3f}", c.pairs) + mark)
    return "\n".join(lines)


def ranking_text(ranking: Ranking, metric: str) -> str:
    """A ranking as plain text."""
    lines = [
        f"{metric}: mean rank over {ranking.blocks} blocks; Friedman p {ranking.friedman_p:.2g}; "
        f"ranks within {ranking.critical_difference:.2f} do not differ (Nemenyi, 0.05)"
    ]
    lines += [f"{value:6.2f}  {name}" for name, value in ranking.mean_ranks.items()]
    lines += [f"not told apart: {', '.join(group)}" for group in ranking.groups]
    return "\n".join(lines)
