"""The differences of two results folders as a table for people and as JSON for scripts."""

import math
from collections.abc import Sequence
from typing import Any

from foundad.folders.differences import Difference, Differences, Line
from foundad.folders.held import shortened
from foundad.metrics.registry import METRICS

SHAPE = "{:<20} {:>7} {:>7} {:>7} {:>9} {:>20} {:>6} {:>9}  {}"


def as_text(found: Differences, a: str, b: str) -> str:
    """One line per metric, after what only one folder has."""
    lines = [f"A is {a}, B is {b}: {found.both} cells are in both"]
    for text, cells in (("only in A", found.only_a), ("only in B", found.only_b), ("from other draws", found.draws)):
        lines += _named(f"{text}: ", [str(cell) for cell in cells])
    lines += _named("metric only in A: ", found.metrics_a) + _named("metric only in B: ", found.metrics_b)
    lines += [
        f"B - A, shares in %; p: Wilcoxon over cells, after Holm; tolerance {found.tolerance:g}, stored units",
        "",
    ]
    lines.append(
        SHAPE.format("metric", "values", "differ", "beyond", "mean", "interval of 95 %", "p", "largest", "where")
    )
    lines += [_line(line).rstrip() for line in found.lines]
    verdict = "the same within the tolerance" if found.equal else "not the same"
    return "\n".join([*lines, "", verdict])


def _named(start: str, names: Sequence[str]) -> list[str]:
    return [f"{start}{name}" for name in shortened(names)]


def _line(line: Line) -> str:
    unit = 100 if line.metric in METRICS and METRICS[line.metric].unit == "share" else 1
    mean, interval, p, most, where = "", "", "", "", ""
    if line.comparison is not None:
        low, high = line.comparison.interval.low, line.comparison.interval.high
        mean, interval = f"{unit * line.comparison.difference:+.2g}", f"[{unit * low:+.2g}, {unit * high:+.2g}]"
        p = f"{line.p:.3f}"
    if line.largest:
        first = line.largest[0]
        most, where = _size(first, unit), f"{first.cell} {first.category}"
    return SHAPE.format(line.metric, line.values, line.differing, line.beyond, mean, interval, p, most, where)


def _size(one: Difference, unit: float) -> str:
    if one.a is None or one.b is None:
        return "none in A" if one.a is None else "none in B"
    return f"{unit * (one.b - one.a):+.2g}"


def as_json(found: Differences, a: str, b: str) -> dict[str, Any]:
    """Everything, in the units that are stored; a value that a folder does not have is null."""
    names = lambda cells: [str(cell) for cell in cells]  # noqa: E731
    return {
        "a": a,
        "b": b,
        "equal": found.equal,
        "tolerance": found.tolerance,
        "cells": {
            "both": found.both,
            "only_a": names(found.only_a),
            "only_b": names(found.only_b),
            "other_draws": names(found.draws),
        },
        "only_metrics": {"a": found.metrics_a, "b": found.metrics_b},
        "metrics": [_facts(line) for line in found.lines],
    }


def _facts(line: Line) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(line, name) for name in ("metric", "values", "differing", "beyond", "p")}
    one = line.comparison
    found |= {"mean": None, "interval": None, "pairs": 0}
    if one is not None:
        found |= {"mean": one.difference, "interval": [one.interval.low, one.interval.high], "pairs": one.pairs}
    return found | {"largest": [_fact(difference) for difference in line.largest]}


def _fact(one: Difference) -> dict[str, Any]:
    size = one.size if math.isfinite(one.size) else None
    return {"cell": str(one.cell), "category": one.category, "a": one.a, "b": one.b, "size": size}
