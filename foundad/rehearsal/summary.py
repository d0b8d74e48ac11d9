"""Summarises a rehearsal: tables and their dashes, figures, missing files, and disk and time compared with the plan."""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from foundad.cells import Cell
from foundad.plan.outlook import Room, peak_bytes, wall_seconds
from foundad.plan.selection import Plan
from foundad.rehearsal.project import Rehearsal
from foundad.rehearsal.running import LOG, Measured
from foundad.report.tables.metrics import ABSENT
from foundad.sealed import read_run_table

MB = 1e6


class Summary(NamedTuple):
    """text: the summary to print. whole: whether nothing is missing, no cell failed and Snakemake succeeded."""

    text: str
    whole: bool


def plan_of(rehearsal: Rehearsal) -> Plan:
    """The plan of a rehearsal, whatever the current folder is."""
    results = rehearsal.folder / rehearsal.values["results"]
    return Plan(dict(rehearsal.values) | {"results": str(results)}, rehearsal.folder / "config")


def summary(rehearsal: Rehearsal, plan: Plan, measured: Measured, cores: int) -> Summary:
    """Compare the files of a rehearsal with those that its plan expects."""
    missing = [path for path in _wanted(plan) if not path.is_file() or not path.stat().st_size]
    failed = _failed(plan)
    lines = [f"rehearsal of {rehearsal.of}", ""]
    lines += [*_experiments(plan, missing), "", *_dashes(plan), ""]
    lines += [*_cost(plan, measured, cores), f"log         {rehearsal.folder / LOG}"]
    lines += [f"page        {plan.results.report}"]
    lines += [f"missing     {path}" for path in missing]
    lines += [f"failed      {cell}: {reason}" for cell, reason in failed.items()]
    whole = not missing and not failed and not measured.code
    lines += ["", "nothing is missing, no cell failed" if whole else _verdict(missing, failed, measured)]
    return Summary("\n".join(lines), whole)


def _verdict(missing: list[Path], failed: dict[str, str], measured: Measured) -> str:
    return f"{len(missing)} files are missing, {len(failed)} cells failed, Snakemake exited with {measured.code}"


def _wanted(plan: Plan) -> list[Path]:
    """All tables, figures and the page."""
    return [Path(path) for path in (*plan.tables, *plan.figures, *plan.overviews, str(plan.results.report))]


def _failed(plan: Plan) -> dict[str, str]:
    """Failed cell -> its reason. A cell without a record counts as failed."""
    if not plan.results.runs.is_file():
        return {str(cell): "there is no runs.parquet" for cell in plan.cells[:1]}
    axes = list(Cell.__dataclass_fields__)
    rows = read_run_table(plan.results.runs, [*axes, "status", "reason"]).to_pylist()
    found = {Cell(*(row[axis] for axis in axes)): row for row in rows}
    wrong = {
        str(cell): found[cell]["reason"] for cell in plan.cells if cell in found and found[cell]["status"] != "done"
    }
    return wrong | {str(cell): "was not collected" for cell in plan.cells if cell not in found}


def _experiments(plan: Plan, missing: Iterable[Path]) -> list[str]:
    """One line per experiment: the number of cells, and how many of its tables and figures exist."""
    gone = set(missing)
    width = max(len(experiment.id) for experiment in plan.experiments)
    lines = [f"{'experiment':<{width}}  cells  tables  figures"]
    for experiment in plan.experiments:
        counts = []
        for stage, names in (("table", experiment.tables), ("figure", experiment.figures)):
            jobs = [plan.job(stage, experiment=experiment.id, **{stage: name}) for name in names]
            there = sum(not gone & set(job.writes(plan.results).values()) for job in jobs)
            counts.append(f"{there} of {len(jobs)}")
        cells = len(plan.catalogue.cells(experiment))
        lines.append(f"{experiment.id:<{width}}  {cells:>5}  {counts[0]:>6}  {counts[1]:>7}")
    tables = sum(len(experiment.tables) for experiment in plan.experiments)
    figures = sum(len(experiment.figures) for experiment in plan.experiments)
    return [*lines, f"{'distinct':<{width}}  {len(plan.cells):>5}  {tables:>6}  {figures:>7}"]


def _dashes(plan: Plan) -> list[str]:
    """The dashes in all tables, counted by reason."""
    reasons: Counter[str] = Counter()
    entries = 0
    for path in (Path(name) for name in plan.tables if name.endswith(".csv")):
        if not path.is_file():
            continue
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                metric, mean = row.get("metric", ""), row.get("mean")
                if mean is None:  # not a table of metrics
                    continue
                entries += 1
                if not mean:
                    beside = metric.endswith((" published", " difference"))
                    reasons["no published value agrees" if beside else row["notes"] or "no reason given"] += 1
    found = [f"  {count:>5}  {_told(reason)}" for reason, count in reasons.most_common()]
    return [f"dashes      {reasons.total()} of {entries} entries of tables", *found]


def _told(reason: str) -> str:
    return f"{reason} (the experiment has no such cell)" if reason == ABSENT else reason


def _cost(plan: Plan, measured: Measured, workers: int) -> list[str]:
    """Measured disk peak and wall time, compared with the plan."""
    planned = peak_bytes(plan, Room(workers))
    parts = ", ".join(f"{kind} {size / MB:.1f}" for kind, size in measured.parts.most_common())
    seconds = wall_seconds(plan, Room(workers))
    return [
        f"disk        {measured.peak / MB:.1f} MB at most ({parts}); planned {planned / MB:.1f} MB "
        f"({_apart(measured.peak, planned)})",
        f"time        {measured.seconds / 60:.1f} minutes on {workers} cores; planned {seconds / 60:.1f} "
        f"({_apart(measured.seconds, seconds)})",
    ]


def _apart(measured: float, planned: float) -> str:
    return f"{100 * (measured / planned - 1):+.0f} %" if planned else "nothing was planned"
