"""Everything the page shows as numbers: results, categories, failures and the record of every cell, as compact columns.

Means and deviations of rows are those of :mod:`foundad.report.aggregate`. What many cells share (config, versions,
machine) stands once and is referred to by its place. It draws and formats nothing.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from foundad.cells import Cell
from foundad.config.experiment import Experiment
from foundad.metrics.registry import METRICS
from foundad.paths import Results
from foundad.report.aggregate import Frame, Summary, load
from foundad.sealed import read_run_table

if TYPE_CHECKING:
    from foundad.plan.catalogue import Catalogue

Group = tuple[str, str, str, int]
KEYS = ["dataset", "encoder", "method", "shots"]
IMAGE_LEVEL = "image level"
RUN_NUMBERS = ("fit_seconds", "score_seconds", "images", "parameters", "peak_memory_bytes")


@dataclass(frozen=True)
class Study:
    """What ran and what came out.

    payload: the page's JSON. groups: cells that differ in the seed alone. summaries: (group, metric) -> its summary.
    """

    payload: dict[str, Any]
    groups: Mapping[Group, Sequence[Cell]]
    summaries: Mapping[tuple[Group, str], Summary]
    dataset_notes: Mapping[str, Sequence[str]]


class Pool:
    """Values that stand once and are referred to by their place."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """The place of ``value``, which is added if it is new."""
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
        groups.setdefault((cell.dataset, cell.encoder, cell.method, cell.shots), []).append(cell)
    groups = {group: sorted(groups[group]) for group in sorted(groups, key=_order(cells))}
    metrics = _present(frame, cells)
    summaries = {
        (group, metric): frame.summary(found, metric)
        for group, found in groups.items()
        for metric in metrics.get(group[0], [])
    }
    runs = read_run_table(results.runs).to_pandas(use_threads=False)
    payload = _payload(catalogue, groups, summaries, frame.metrics, runs)
    return Study(payload, groups, summaries, frame.dataset_notes)


def _order(cells: Iterable[Cell]) -> Any:
    """Groups in the order in which the experiments name each axis' values; shots by number."""
    ranks: list[dict[str, int]] = [{}, {}, {}]
    for cell in cells:
        for rank, value in zip(ranks, (cell.dataset, cell.encoder, cell.method), strict=True):
            rank.setdefault(value, len(rank))
    return lambda group: (*(rank[value] for rank, value in zip(ranks, group, strict=False)), group[3])


def _present(frame: Frame, cells: Iterable[Cell]) -> dict[str, list[str]]:
    """Dataset -> metrics with a value anywhere, in the registry's order; of a dataset that failed all, I-AUROC."""
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
    names = {axis: list(dict.fromkeys(str(group[n]) for group in groups)) for n, axis in enumerate(KEYS[:3])}
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
        "groups": {axis: [places[axis][str(group[n])] for group in groups] for n, axis in enumerate(KEYS[:3])}
        | {"shots": [group[3] for group in groups]},
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
    """(group, seed, metric) -> macro mean over categories, for those that are defined on every category."""
    grouped = metrics.groupby([*KEYS, "seed", "metric"], sort=False)["value"].agg(["mean", "count", "size"])
    whole = grouped[grouped["count"] == grouped["size"]]
    return dict(zip(whole.index, whole["mean"].tolist(), strict=True))


def _categories(metrics: pd.DataFrame, row_places: Mapping[tuple[Group, str], int]) -> dict[str, list[Any]]:
    """Mean and deviation over seeds of every row and category; nothing where a dataset has one category."""
    known = metrics.dropna(subset=["value"])
    grouped = known.groupby([*KEYS, "metric", "category"], sort=True)["value"].agg(["mean", "std"]).reset_index()
    several = known.groupby("dataset")["category"].nunique()
    names = sorted(grouped["category"].unique())
    places = {name: place for place, name in enumerate(names)}
    found: dict[str, list[Any]] = {"names": names, "row": [], "category": [], "mean": [], "deviation": []}
    for dataset, encoder, method, shots, metric, category, mean, deviation in grouped.itertuples(index=False):
        place = row_places.get(((dataset, encoder, method, shots), metric))
        if place is None or several[dataset] < 2:
            continue
        found["row"].append(place)
        found["category"].append(places[category])
        found["mean"].append(_short(mean))
        found["deviation"].append(_short(deviation))
    return found


def _runs(runs: pd.DataFrame, group_places: Mapping[Group, int], notes: Pool, pool: Pool) -> dict[str, list[Any]]:
    """One entry a cell: state, reason, warnings, and its record with shared parts by their place in ``pool``."""
    found: dict[str, list[Any]] = {
        key: [] for key in ("group", "seed", "done", "reason", "warnings", "record", *RUN_NUMBERS)
    }
    for row in runs.to_dict("records"):
        group = (row["dataset"], row["encoder"], row["method"], row["shots"])
        if group not in group_places:
            continue
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
    """The record of a cell; objects are replaced by {"$": place}, as many cells share them."""
    if not isinstance(text, str):
        return None
    record = json.loads(text)
    return {
        key: {"$": pool.place(value)} if isinstance(value, dict) else value
        for key, value in record.items()
        if key not in ("cell", "status", *RUN_NUMBERS)
    }


def _number(value: Any) -> float | int | None:
    """``value`` as JSON has it."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)) or pd.isna(value):
        return None
    return int(value) if float(value).is_integer() else float(value)


def _short(value: float | None) -> float | None:
    """``value`` to seven digits: more than anyone reads, half the bytes."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.7g}")
