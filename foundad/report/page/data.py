"""Everything the page shows as numbers: results, categories, failures and the record of every cell, as compact columns.

Means and deviations of rows come from :mod:`foundad.report.aggregate`. What many cells share (config, versions,
machine) is stored once and referred to by its index. Nothing is drawn or formatted here.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from foundad.cells import NAMED_AXES, SHOWN_AXES, Cell
from foundad.config.experiment import Experiment
from foundad.metrics.registry import METRICS
from foundad.paths import Results
from foundad.report.aggregate import Frame, Summary, load, of_cells
from foundad.sealed import read_run_table

if TYPE_CHECKING:
    from foundad.plan.catalogue import Catalogue

Group = tuple[Any, ...]  # values of KEYS
KEYS = list(SHOWN_AXES)
IMAGE_LEVEL = "image level"
RUN_NUMBERS = ("fit_seconds", "score_seconds", "images", "parameters", "peak_memory_bytes")


@dataclass(frozen=True)
class Study:
    """What ran and what came out.

    payload: the page's JSON. groups: cells that differ only in the seed. summaries: (group, metric) -> its summary.
    """

    payload: dict[str, Any]
    groups: Mapping[Group, Sequence[Cell]]
    summaries: Mapping[tuple[Group, str], Summary]
    dataset_notes: Mapping[str, Sequence[str]]


class Pool:
    """Values that are stored once and referred to by their index."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """The index of ``value``, which is added if it is new."""
        text = json.dumps(value, sort_keys=True)
        if text not in self._places:
            self._places[text] = len(self.values)
            self.values.append(value)
        return self._places[text]


def study(results: Results, catalogue: "Catalogue", experiments: Sequence[Experiment]) -> Study:
    """Read and arrange the metrics and runs of all cells of ``experiments``."""
    grids = [grid for one in experiments for grid in one.cells]
    everything = Experiment(id="all", title="all", cells=grids)
    frame = load(results, catalogue, everything)
    cells = catalogue.cells(everything)
    groups: dict[Group, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(getattr(cell, key) for key in KEYS), []).append(cell)
    groups = {group: sorted(groups[group]) for group in sorted(groups, key=_order(cells))}
    metrics = _present(frame, cells)
    summaries = {
        (group, metric): frame.summary(found, metric)
        for group, found in groups.items()
        for metric in metrics.get(group[0], [])
    }
    runs = of_cells(read_run_table(results.runs).to_pandas(use_threads=False), cells)
    payload = _payload(catalogue, groups, summaries, frame.metrics, runs)
    return Study(payload, groups, summaries, frame.dataset_notes)


def _order(cells: Iterable[Cell]) -> Any:
    """Sort key that puts groups in the order in which the experiments name each axis' values; numbers by size."""
    ranks: dict[str, dict[str, int]] = {axis: {} for axis in NAMED_AXES}
    for cell in cells:
        for axis, rank in ranks.items():
            rank.setdefault(getattr(cell, axis), len(rank))
    return lambda group: [ranks[key][value] if key in ranks else value for key, value in zip(KEYS, group, strict=True)]


def _present(frame: Frame, cells: Iterable[Cell]) -> dict[str, list[str]]:
    """Dataset -> metrics with any value, in the registry's order; only I-AUROC if no metric has one."""
    known = frame.metrics.dropna(subset=["value"])[["dataset", "metric"]].drop_duplicates()
    pairs = set(known.itertuples(index=False, name=None))
    return {
        dataset: [metric for metric in METRICS if (dataset, metric) in pairs] or ["i_auroc"]
        for dataset in dict.fromkeys(cell.dataset for cell in cells)
    }


# ---------------------------------------------------------------------------------------------------- the JSON


def _payload(
    catalogue: "Catalogue",
    groups: Mapping[Group, Sequence[Cell]],
    summaries: Mapping[tuple[Group, str], Summary],
    metrics: pd.DataFrame,
    runs: pd.DataFrame,
) -> dict[str, Any]:
    notes, pool = Pool(), Pool()
    columns = {key: [group[n] for group in groups] for n, key in enumerate(KEYS)}
    names = {axis: list(dict.fromkeys(columns[axis])) for axis in NAMED_AXES}
    places = {axis: {name: place for place, name in enumerate(found)} for axis, found in names.items()}
    used = list(dict.fromkeys(metric for _, metric in summaries))
    group_places = {group: place for place, group in enumerate(groups)}
    metric_places = {metric: place for place, metric in enumerate(used)}
    rows: dict[str, list[Any]] = {key: [] for key in ("group", "metric", "mean", "deviation", "seeds", "notes")}
    row_places: dict[tuple[Group, str], int] = {}
    by_seed = _by_seed(metrics)
    for (group, metric), summary in summaries.items():
        row_places[group, metric] = len(rows["group"])
        rows["group"].append(group_places[group])
        rows["metric"].append(metric_places[metric])
        rows["mean"].append(_short(summary.mean))
        rows["deviation"].append(_short(summary.deviation))
        rows["seeds"].append([_short(by_seed.get((*group, cell.seed, metric))) for cell in groups[group]])
        rows["notes"].append([notes.place(note) for note in summary.notes])
    return {
        "axes": {axis: [_named(catalogue, axis, name) for name in found] for axis, found in names.items()},
        "metrics": [_metric(metric) for metric in used],
        "groups": {
            key: [places[key][value] for value in column] if key in places else column
            for key, column in columns.items()
        },
        "rows": rows,
        "categories": _categories(metrics, row_places),
        "runs": _runs(runs, group_places, notes, pool),
        "notes": notes.values,
        "pool": pool.values,
    }


def _named(catalogue: "Catalogue", axis: str, name: str) -> dict[str, Any]:
    thing = getattr(catalogue, f"{axis}s")[name]
    if axis == "method":
        return {"id": name, "title": thing.label, "control": thing.control}
    return {"id": name, "title": thing.title, "licence": thing.licence, "source": thing.source}


def _metric(metric: str) -> dict[str, Any]:
    known = METRICS[metric]
    protocol = metric.partition("/")[0] if "/" in metric else IMAGE_LEVEL
    return {
        "id": metric,
        "name": known.name,
        "protocol": protocol,
        "share": known.unit == "share",
        "higher": known.higher_is_better,
        "definition": known.definition,
    }


def _by_seed(metrics: pd.DataFrame) -> dict[Any, float]:
    """(group, seed, metric) -> macro mean over categories, if the metric is defined on every category."""
    grouped = metrics.groupby([*KEYS, "seed", "metric"], sort=False)["value"].agg(["mean", "count", "size"])
    whole = grouped[grouped["count"] == grouped["size"]]
    return dict(zip(whole.index, whole["mean"].tolist(), strict=True))


def _categories(metrics: pd.DataFrame, row_places: Mapping[tuple[Group, str], int]) -> dict[str, list[Any]]:
    """Mean and deviation over seeds of every row and category; datasets with one category are left out."""
    known = metrics.dropna(subset=["value"])
    grouped = known.groupby([*KEYS, "metric", "category"], sort=True)["value"].agg(["mean", "std"]).reset_index()
    several = known.groupby("dataset")["category"].nunique()
    names = sorted(grouped["category"].unique())
    places = {name: place for place, name in enumerate(names)}
    found: dict[str, list[Any]] = {"names": names, "row": [], "category": [], "mean": [], "deviation": []}
    for *group, metric, category, mean, deviation in grouped.itertuples(index=False):
        place = row_places.get((tuple(group), metric))
        if place is None or several[group[0]] < 2:
            continue
        found["row"].append(place)
        found["category"].append(places[category])
        found["mean"].append(_short(mean))
        found["deviation"].append(_short(deviation))
    return found


def _runs(runs: pd.DataFrame, group_places: Mapping[Group, int], notes: Pool, pool: Pool) -> dict[str, list[Any]]:
    """One entry per cell: state, reason, warnings, and its record, whose shared parts are indices into ``pool``."""
    found: dict[str, list[Any]] = {
        key: [] for key in ("group", "seed", "done", "reason", "warnings", "record", *RUN_NUMBERS)
    }
    for row in runs.to_dict("records"):
        group = tuple(row[key] for key in KEYS)
        found["group"].append(group_places[group])
        found["seed"].append(row["seed"])
        found["done"].append(row["status"] == "done")
        for key in ("reason", "warnings"):
            found[key].append(notes.place(row[key]) if isinstance(row.get(key), str) else None)
        for key in RUN_NUMBERS:
            found[key].append(_number(row.get(key)))
        found["record"].append(_record(row.get("record"), pool))
    return found


def _record(text: Any, pool: Pool) -> dict[str, Any] | None:
    """The record of a cell; objects are replaced by {"$": index}, because many cells share them."""
    if not isinstance(text, str):
        return None
    record = json.loads(text)
    return {
        key: {"$": pool.place(value)} if isinstance(value, dict) else value
        for key, value in record.items()
        if key not in ("cell", "status", *RUN_NUMBERS)
    }


def _number(value: Any) -> float | int | None:
    """``value`` as a JSON number; None if it is missing or not finite."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)) or pd.isna(value):
        return None
    return int(value) if float(value).is_integer() else float(value)


def _short(value: float | None) -> float | None:
    """``value`` rounded to seven digits, more than anyone reads, which halves the bytes."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.7g}")
