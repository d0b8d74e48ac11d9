"""What came out for a folder of pictures: which method to take and why, in plain lines.

Reads metrics.parquet and runs.parquet of the finished project. Nothing is fitted or scored here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pandas as pd

from foundad.cells import Cell
from foundad.errors import UserError
from foundad.metrics.registry import METRICS
from foundad.own.project import EXPERIMENT, Own
from foundad.report.compare import compare_methods
from foundad.report.statistics import SIGNIFICANT
from foundad.sealed import read_json, read_run_table

RANKED_BY = "i_auroc"


@dataclass(frozen=True)
class Cost:
    """What a method costs here: seconds to fit, milliseconds per picture after the encoder, bytes of its model."""

    fit: float
    score: float
    size: int

    def __str__(self) -> str:
        return f"fit {self.fit:.1f} s, {self.score:.1f} ms per picture after the encoder, {self.size / 1e6:.1f} MB"


@dataclass(frozen=True)
class Outcome:
    """The chosen method with its model (seed 0), and lines for the reader."""

    method: str
    model: Path
    lines: list[str]


def outcome(own: Own) -> Outcome:
    """The results of a finished project.

    Raises:
        UserError: no method was fitted.
    """
    runs = read_run_table(own.results.runs).to_pandas(use_threads=False)
    done = [name for name in own.methods if (runs[runs["method"] == name]["status"] == "done").all()]
    failed = [f"{own.methods[name].label}: {_reason(runs, name)}" for name in own.methods if name not in done]
    if not done:
        raise UserError("\n".join(failed))
    costs = {name: _cost(own, runs, name) for name in done}
    table = read_run_table(own.results.metrics).to_pandas(use_threads=False)
    chosen, lines = _labelled(own, table, costs) if own.split.labelled else _unlabelled(own, table, costs)
    return Outcome(chosen, _model(own, chosen), [*failed, *lines])


def _cell(own: Own, method: str, dataset: str | None = None) -> Cell:
    return Cell(dataset or own.dataset, own.encoder, method, own.shots, 0)


def _model(own: Own, method: str) -> Path:
    return own.results.cell(_cell(own, method)) / "model.safetensors"


def _reason(runs: pd.DataFrame, method: str) -> str:
    found = runs[(runs["method"] == method) & (runs["status"] != "done")]["reason"]
    return f"failed: {found.iloc[0]}" if len(found) else "was not run"


def _cost(own: Own, runs: pd.DataFrame, method: str) -> Cost:
    rows = runs[(runs["method"] == method) & (runs["dataset"] == own.dataset)]
    milliseconds = 1000 * float(rows["score_seconds"].sum()) / max(1, int(rows["images"].sum()))
    return Cost(float(rows["fit_seconds"].mean()), milliseconds, _model(own, method).stat().st_size)


# ---------------------------------------------------------------------------------------------------- with labels


def _labelled(own: Own, table: pd.DataFrame, costs: Mapping[str, Cost]) -> tuple[str, list[str]]:
    """The method to take, with the comparison that it rests on."""
    lines = [(own.results.table(EXPERIMENT, "main", "md")).read_text(encoding="utf-8").rstrip(), ""]
    values = table[table["metric"] == RANKED_BY].dropna(subset=["value"])
    means = {name: float(values[values["method"] == name]["value"].mean()) for name in costs}
    best = max(costs, key=lambda name: (round(means[name], 4), -costs[name].score))
    lines += [f"{own.methods[name].label}: {cost}" for name, cost in costs.items()]
    seeds = values[values["method"] == best].groupby("seed")["value"].mean()
    spread = float(seeds.std()) if len(seeds) > 1 else 0.0
    chosen, reasons = best, []
    for name in costs:
        if name == best:
            continue
        told, significant = _difference(own, name, best)
        reasons.append(told)
        close = not significant and means[best] - means[name] <= spread
        if close and costs[name].score < costs[chosen].score:
            chosen = name
    title, name = own.methods[chosen].label, METRICS[RANKED_BY].name
    tied = sum(round(mean, 4) == round(means[best], 4) for mean in means.values()) > 1
    why = f"it has the highest {name}, {100 * means[best]:.1f} %" + ", and costs less than others that have it" * tied
    if chosen != best:
        why = (
            f"it costs the least of those that are within the spread of seeds ({100 * spread:.1f} points) of the best "
            f"{name}, {100 * means[best]:.1f} % of {own.methods[best].label}"
        )
    return chosen, [*lines, "", f"take {title}: {why}", *(f"  {line}" for line in reasons)]


def _difference(own: Own, other: str, best: str) -> tuple[str, bool]:
    """How much ``best`` is ahead of ``other`` in words, and whether that is significant."""
    names = f"{own.methods[best].label} - {own.methods[other].label}"
    try:
        (row,) = compare_methods(own.results, other, best, [RANKED_BY])
    except UserError:
        return f"{names}: one seed and one category tell nothing about significance", False
    found = row.comparison
    ends = f"[{100 * found.interval.low:+.1f}, {100 * found.interval.high:+.1f}]"
    least = 2 ** (1 - found.pairs)
    note = f"; {found.pairs} pairs cannot give a p below {least:.2g}" if least >= SIGNIFICANT else ""
    verdict = "significant" if row.p < SIGNIFICANT else "not significant"
    return (
        f"{names}: {100 * found.difference:+.1f} points {ends}, p {row.p:.2g}, {verdict} ({found.pairs} pairs{note})",
        row.p < SIGNIFICANT,
    )


# ---------------------------------------------------------------------------------------------------- without labels


def _unlabelled(own: Own, table: pd.DataFrame, costs: Mapping[str, Cost]) -> tuple[str, list[str]]:
    """The method to take where there is no defect to find: the fewest false alarms, then the least cost."""
    alarms = {name: _false_alarms(own, table, name) for name in costs}
    tried = sum(map(len, own.split.folds))
    chosen = min(costs, key=lambda name: (alarms[name], costs[name].score))
    lines = ["| method | threshold | false alarms | cost |", "|---|---:|---:|---|"]
    for name, cost in costs.items():
        share = f"{alarms[name]} of {tried} ({100 * alarms[name] / tried:.0f} %)"
        lines.append(f"| {own.methods[name].label} | {_thresholds(own, name)} | {share} | {cost} |")
    return chosen, [
        *lines,
        "",
        f"False alarms: a model of {own.shots} others, which has not seen it, scores each of the {tried} normal pictures.",
        "The threshold aims at 5 % and is learned from augmented pictures of the drawn ones.",
        "",
        f"take {own.methods[chosen].label}: it has the fewest false alarms, and of those with as few the least cost; there "
        "is no picture with a defect here, so nothing says how well it finds one",
    ]


def _false_alarms(own: Own, table: pd.DataFrame, method: str) -> int:
    """How many left-out normal pictures are above the threshold of the model that has not seen them."""
    total = 0.0
    rates = table[(table["metric"] == "i_fpr") & (table["method"] == method)]
    for name, fold in zip(own.folds, own.split.folds, strict=True):
        for category, rate in rates[rates["dataset"] == name][["category", "value"]].itertuples(index=False):
            inside = [picture for picture in fold if (picture.category or own.dataset) == category]
            total += 0.0 if rate is None or pd.isna(rate) else float(rate) * len(inside)
    return round(total)


def _thresholds(own: Own, method: str) -> str:
    """The threshold of the model, or those of its categories."""
    record = read_json(own.results.cell(_cell(own, method)) / "record.json", "record").facts
    found = cast("Sequence[float | None]", [part.get("threshold") for part in record["fit"].values()])
    return ", ".join("-" if value is None else f"{value:.4g}" for value in found)
