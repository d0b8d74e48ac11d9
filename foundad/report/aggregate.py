"""Turns the long metrics table into the numbers of a table or figure: mean over categories, then over seeds.

The macro mean is taken within each seed. A seed in which a category is undefined or the cell failed is left out, with a
note that says which and why. Nothing is formatted here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from foundad.cells import AXES, NAMED_AXES, Axis, Cell
from foundad.data.ledger import manifest_notes
from foundad.metrics.registry import METRICS
from foundad.paths import Results
from foundad.report.choice import chosen_cells
from foundad.sealed import broken, read_run_table

if TYPE_CHECKING:  # validation imports this file, through the kinds of tables and figures, but needs no pandas
    import pandas as pd

    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue


@dataclass(frozen=True)
class Summary:
    """Mean and sample deviation of a metric over ``n`` seeds (None if there are too few), and notes on what is missing.

    seeds: the values behind the mean. samples: (seed, category) -> value, the single values for paired comparisons.
    """

    mean: float | None
    deviation: float | None
    n: int
    notes: tuple[str, ...] = ()
    seeds: tuple[float, ...] = ()
    samples: Mapping[tuple[int, str], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """The metrics and runs of one experiment."""

    catalogue: "Catalogue"
    experiment: "Experiment"
    metrics: "pd.DataFrame"
    runs: "pd.DataFrame"
    dataset_notes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def cells(self, where: Mapping[Axis, Sequence[str | int]]) -> list[Cell]:
        """The experiment's cells that match ``where``, in the order in which ``where`` and the experiment name them."""
        return chosen_cells(self.catalogue.cells(self.experiment), where)

    def title(self, axis: str, value: Any) -> str:
        """How a value of an axis is printed."""
        if axis == "shots":
            return f"{value}-shot"
        if axis == "category":
            return str(value)
        if axis not in NAMED_AXES:
            return f"{axis.capitalize()} {value}"
        if axis == "method":
            return self.catalogue.methods[value].label
        return str(getattr(self.catalogue, f"{axis}s")[value].title)

    def categories(self, cells: Iterable[Cell]) -> list[str]:
        """Categories that occur in the metrics of ``cells``."""
        datasets = {cell.dataset for cell in cells}
        return sorted(self.metrics.loc[self.metrics["dataset"].isin(datasets), "category"].unique())

    def version_note(self, cells: Iterable[Cell]) -> str:
        """A note on packages whose versions differ between finished ``cells``; empty if there are none."""
        found: dict[str, set[str]] = {}
        for cell in cells:
            for pair in self._versions.get(cell, "").split(" "):
                name, _, number = pair.rpartition("=")
                if name:
                    found.setdefault(name, set()).add(number)
        mixed = [
            f"{name} {' and '.join(sorted(numbers))}" for name, numbers in sorted(found.items()) if len(numbers) > 1
        ]
        return f"Cells were made with different versions of {', '.join(mixed)}." if mixed else ""

    def summary(self, cells: Iterable[Cell], metric: str, category: str | None = None) -> Summary:
        """Summarise ``metric`` over the seeds of ``cells``: macro mean over categories, unless one is given."""
        values, notes, remarks = [], [], []
        samples: dict[tuple[int, str], float] = {}
        suspicious: dict[str, list[int]] = {}
        for cell in cells:
            if cell in self._warnings:
                suspicious.setdefault(self._warnings[cell], []).append(cell.seed)
            failed = self._failures.get(cell)
            if failed is not None:
                notes.append(f"seed {cell.seed} failed: {failed}")
                continue
            rows = self._by_cell.get((cell, metric), [])
            if category is not None:
                rows = [row for row in rows if row[0] == category]
            samples |= {(cell.seed, name): value for name, value, _ in rows if value is not None}
            undefined = [(name, reason) for name, value, reason in rows if value is None]
            if undefined:
                name, reason = undefined[0]
                notes.append(f"seed {cell.seed} left out: category {name}: {reason}")
            elif rows:
                remarks += [f"category {name}: {remark}" for name, _, remark in rows if isinstance(remark, str)]
                values.append(math.fsum(value for _, value, _ in rows) / len(rows))
        notes += dict.fromkeys(remarks)  # the same for every seed
        for warning, seeds in suspicious.items():
            notes.append(f"seed {', '.join(map(str, sorted(seeds)))}: {warning}")
        if not values:
            return Summary(None, None, 0, tuple(notes))
        mean = math.fsum(values) / len(values)
        deviation = None
        if len(values) > 1:
            deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        return Summary(mean, deviation, len(values), tuple(notes), tuple(values), samples)

    def __post_init__(self) -> None:
        by_cell: dict[tuple[Cell, str], list[tuple[str, float | None, str | None]]] = {}
        columns = [self.metrics[name].tolist() for name in (*AXES, "metric", "category", "value", "reason")]
        for *cell, metric, category, value, reason in zip(*columns, strict=True):
            known = None if value is None or math.isnan(value) else value
            by_cell.setdefault((Cell(*cell), metric), []).append((category, known, reason))
        failures = _of_cells(self.runs[self.runs["status"] != "done"], "reason")
        warnings = _of_cells(self.runs[self.runs["warnings"].notna()], "warnings")
        versions = _of_cells(self.runs[self.runs["versions"].notna()], "versions")
        object.__setattr__(self, "_versions", versions)
        object.__setattr__(self, "_warnings", warnings)
        object.__setattr__(self, "_by_cell", by_cell)
        object.__setattr__(self, "_failures", failures)

    _by_cell = None  # type: Any
    _failures = None  # type: Any
    _warnings = None  # type: Any
    _versions = None  # type: Any


def _of_cells(runs: "pd.DataFrame", column: str) -> dict[Cell, Any]:
    """Cell -> its value in ``column`` of ``runs``."""
    values = zip(*(runs[name].tolist() for name in (*AXES, column)), strict=True)
    return {Cell(*cell): value for *cell, value in values}


def load(results: Results, catalogue: "Catalogue", experiment: "Experiment") -> Frame:
    """Read metrics.parquet and runs.parquet, of the experiment's cells alone, and the manifests' notes on their datasets."""
    columns = [*AXES, "status", "reason", "warnings", "versions"]
    cells = catalogue.cells(experiment)
    runs = read_run_table(results.runs, columns).to_pandas(use_threads=False)
    datasets = {cell.dataset for cell in cells}
    # A study has more than half a million rows; an experiment needs a few thousand of them.
    wanted = {axis: {getattr(cell, axis) for cell in cells} for axis in NAMED_AXES}
    manifests = {name: results.manifest(name) for name in sorted(datasets)}
    notes = {name: manifest_notes(path) for name, path in manifests.items() if path.is_file()}
    metrics = read_run_table(results.metrics, [*AXES, "category", "metric", "value", "reason"], wanted)
    try:
        shown = of_cells(metrics.to_pandas(use_threads=False), cells)
        return Frame(catalogue, experiment, shown, of_cells(runs, cells), notes)
    except (TypeError, ValueError) as error:
        raise broken(results.metrics, f"holds something other than metrics ({error})") from None


def of_cells(table: "pd.DataFrame", cells: Iterable[Cell]) -> "pd.DataFrame":
    """The rows of ``cells``, in the order of ``table``: a results folder holds the cells of other experiments as well."""
    wanted = {tuple(vars(cell).values()) for cell in cells}
    axes = zip(*(table[axis].tolist() for axis in AXES), strict=True)
    return table.loc[[values in wanted for values in axes]].reset_index(drop=True)


def metric_name(metric: str, shown: Iterable[str] = ()) -> str:
    """How a metric is printed: with its protocol if ``shown`` holds the same name under another protocol."""
    name = METRICS[metric].name
    if any(other != metric and METRICS[other].name == name for other in shown):
        return f"{name} ({metric.partition('/')[0]})"
    return name


def protocol(metrics: Iterable[str]) -> str:
    """The protocols of ``metrics``, for captions."""
    found = dict.fromkeys(metric.partition("/")[0] for metric in metrics if "/" in metric)
    return " and ".join(found)


def seeds_of(cells: Iterable[Cell]) -> int:
    """Largest number of seeds in any group of ``cells`` that differ only in the seed."""
    return max(Counter(replace(cell, seed=0) for cell in cells).values(), default=0)
