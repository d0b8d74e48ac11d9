"""``foundad compare`` and ``foundad rank``: do methods differ, on the metrics of a run, more than seeds and categories do.

Pairs are (category, seed) of one dataset, encoder and number of shots; the same draws stand behind both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd

from foundad.cells import AXES
from foundad.errors import UserError
from foundad.metrics.registry import METRICS
from foundad.paths import Results
from foundad.report.statistics import SIGNIFICANT, Comparison, Ranking, compare, holm, rank
from foundad.sealed import read_run_table

PAIR = ["category", "seed"]
GROUP = [axis for axis in AXES if axis not in ("method", *PAIR)]  # within which methods are compared
Group = tuple[str, str, int, str]  # and a metric


@dataclass(frozen=True)
class Row:
    """One line of a comparison: where, which metric, b - a, and p corrected over all lines."""

    dataset: str
    encoder: str
    shots: int
    metric: str
    comparison: Comparison
    p: float

    @property
    def worse(self) -> bool:
        """B is significantly worse than A."""
        sign = 1 if METRICS[self.metric].higher_is_better else -1
        return self.p < SIGNIFICANT and sign * self.comparison.difference < 0


def compare_methods(results: Results, a: str, b: str, metrics: Sequence[str]) -> list[Row]:
    """Compare two methods wherever both were run.

    Raises:
        UserError: there are no metrics, an unknown metric or method, or nothing that both share.
    """
    found = []
    for key, table in _tables(results, [a, b], metrics):
        comparison = compare(table[a].tolist(), table[b].tolist())
        if comparison is not None:
            found.append((key, comparison))
    if not found:
        raise UserError(
            f"{results.metrics}: {a} and {b} share fewer than two pairs of cell and category, and a comparison "
            "needs two; run more seeds or categories"
        )
    corrected = holm([comparison.p for _, comparison in found])
    return [Row(*key, comparison, p) for (key, comparison), p in zip(found, corrected, strict=True)]


def rank_methods(results: Results, methods: Sequence[str], metric: str) -> Ranking:
    """Rank methods over all blocks (dataset, encoder, shots, category, seed) in which all of them have a value.

    Raises:
        UserError: as :func:`compare_methods`, or fewer than three methods or two blocks.
    """
    values: dict[str, list[float]] = {name: [] for name in methods}
    for _, table in _tables(results, methods, [metric]):
        for name in methods:
            values[name] += table[name].tolist()
    ranking = rank({name: values[name] for name in methods}, METRICS[metric].higher_is_better)
    if ranking is None:
        raise UserError(f"{results.metrics}: a ranking needs three methods and two categories or seeds that all have")
    return ranking


def _tables(results: Results, methods: Sequence[str], metrics: Sequence[str]) -> list[tuple[Group, pd.DataFrame]]:
    """(dataset, encoder, shots, metric) and one column a method, one row a pair; only where all have values."""
    from foundad.names import nearest

    for metric in metrics:
        if metric not in METRICS:
            raise UserError(f"there is no metric '{metric}'{nearest(metric, METRICS)}")
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
    """The comparison as a plain table, differences and intervals of shares in percent."""
    lines = [
        f"{b} - {a}, shares in %, interval of 95 % (bootstrap over categories and seeds), p of Wilcoxon after Holm"
    ]
    shape = "{:<16} {:<28} {:>6} {:<18} {:>7} {:>17} {:>7} {:>6}"
    lines.append(shape.format("dataset", "encoder", "shots", "metric", "delta", "interval", "p", "pairs"))
    for row in rows:
        c = row.comparison
        unit = 100 if METRICS[row.metric].unit == "share" else 1
        interval = f"[{unit * c.interval.low:+.1f}, {unit * c.interval.high:+.1f}]"
        mark = " worse" if row.worse else " better" if row.p < SIGNIFICANT else ""
        cells = (row.dataset, row.encoder, row.shots, row.metric, f"{unit * c.difference:+.1f}", interval)
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
