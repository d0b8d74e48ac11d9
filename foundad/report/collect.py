"""Stage ``collect``: puts the metrics of all cells into one long table, and their records into another.

metrics.parquet holds numbers, each with the hash of its draw. Equal cells give equal bytes, whichever runs made them.
Times, hosts, versions and failures are in runs.parquet. A cell of the run that is missing is an error; a failed one is a
row of runs.parquet. Other finished cells of the folder are gathered beside them, or left out with a reason.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import pyarrow as pa

from foundad.cells import Cell
from foundad.errors import BrokenFile
from foundad.failures import failure_of
from foundad.metrics.evaluation import CELL_COLUMNS, METRICS_SCHEMA
from foundad.paths import Results
from foundad.sealed import Seal, broken, read_json, read_parquet, write_parquet

SHOWN_PROBLEMS = 10

# The metrics of a cell, and the hash of the draw that it learned from; empty for a control that learns nothing.
RESULTS_SCHEMA = METRICS_SCHEMA.append(pa.field("draw", pa.string()))
RUNS_SCHEMA = pa.schema(
    [
        *CELL_COLUMNS,
        ("status", pa.string()),
        ("reason", pa.string()),
        ("warnings", pa.string()),
        ("draw", pa.string()),
        ("parameters", pa.int64()),
        ("state_bytes", pa.int64()),
        ("fit_seconds", pa.float64()),
        ("score_seconds", pa.float64()),
        ("images", pa.int64()),
        ("peak_memory_bytes", pa.int64()),
        ("device", pa.string()),
        ("host", pa.string()),
        ("versions", pa.string()),
        ("record", pa.string()),
    ]
)


class Keys(NamedTuple):
    """The keys that the record and the metrics of a cell must have; None: any."""

    fit: str | None
    evaluation: str | None


ANY = Keys(None, None)


class Collected(NamedTuple):
    """What is collected of a cell: its row of runs.parquet, and its rows of metrics.parquet, None if it failed."""

    run: dict[str, Any]
    metrics: pa.Table | None


def collect(cells: Mapping[Cell, Keys], results: Results, beside: Mapping[Cell, Keys] | None = None) -> dict[Cell, str]:
    """Write metrics.parquet and runs.parquet, rows sorted by cell, category and metric.

    Args:
        cells: the cells that must be there -> the keys of their files.
        beside: the other cells -> the keys of their files. Those with other keys, and damaged ones, are left out.

    Returns:
        The cells that are left out -> the reason.

    Raises:
        BrokenFile: files of ``cells`` are missing, damaged, or made with another config, other data or another version,
            or metrics do not belong to the scores beside them; one line per cell.
    """
    gathered, problems = _gather(cells, results)
    if problems:
        lines, more = list(problems.values()), len(problems) - SHOWN_PROBLEMS
        cure = ["make such cells again with: snakemake --cores all --forcerun fit"] if len(problems) > 1 else []
        raise BrokenFile("\n".join([*lines[:SHOWN_PROBLEMS], *[f"and {more} more"] * (more > 0), *cure]))
    others, left_out = _gather(beside or {}, results)
    write_collected(gathered | others, results)
    return left_out


def write_collected(cells: Mapping[Cell, Collected], results: Results) -> None:
    """Write metrics.parquet and runs.parquet of ``cells``."""
    tables = [cells[cell].metrics for cell in sorted(cells)]
    known = [table for table in tables if table is not None]
    metrics = pa.concat_tables(known) if known else RESULTS_SCHEMA.empty_table()
    write_parquet(results.metrics, Seal("results"), metrics)
    runs = [cells[cell].run for cell in sorted(cells)]
    write_parquet(results.runs, Seal("runs"), pa.Table.from_pylist(runs, schema=RUNS_SCHEMA))


def _gather(cells: Mapping[Cell, Keys], results: Results) -> tuple[dict[Cell, Collected], dict[Cell, str]]:
    """What is collected of each of ``cells``, and why others cannot be used."""
    found: dict[Cell, Collected] = {}
    problems: dict[Cell, str] = {}
    for cell in sorted(cells):
        try:
            found[cell] = read_cell(cell, results, cells[cell])
        except BrokenFile as error:
            problems[cell] = str(error)
    return found, problems


def read_cell(cell: Cell, results: Results, keys: Keys = ANY) -> Collected:
    """Read the record and the metrics of a cell.

    Raises:
        BrokenFile: a file is missing, damaged or of another key, or the metrics do not belong to the scores beside them.
    """
    record, metrics = results.record(cell), results.cell_metrics(cell)
    for path in (metrics, record):
        if not path.is_file():
            raise BrokenFile(f"{path}: there is no such file; make it with: snakemake --cores all")
    reason = failure_of(metrics, keys.evaluation) or failure_of(record, keys.fit)
    row: dict[str, Any] = asdict(cell) | {"status": "failed" if reason else "done", "reason": reason}
    if failure_of(record) is not None:
        return Collected(row, None)
    facts = read_json(record, "record", keys.fit).facts
    if facts.get("cell") != asdict(cell):
        raise broken(record, f"is not the record of {cell}")
    row |= _spent(facts)
    if reason is not None:
        return Collected(row, None)
    table, seal = read_parquet(metrics, "metrics", keys.evaluation)
    table = table.cast(METRICS_SCHEMA)
    named = (set(table[axis].unique().to_pylist()) <= {value} for axis, value in asdict(cell).items())
    if seal.facts.get("scores") != facts.get("scores") or not all(named):
        raise broken(metrics, "does not belong to the scores beside it")
    row["warnings"] = "; ".join(health_warnings(facts, table)) or None
    return Collected(row, table.append_column("draw", pa.array([row["draw"]] * table.num_rows, pa.string())))


def health_warnings(record: Mapping[str, Any], metrics: pa.Table) -> list[str]:
    """Reasons to suspect a finished cell; there are none for controls.

    A projector whose residual on damaged training images is not larger than on clean ones has learned nothing. An image
    AUROC below 0.5 ranks normal images above defective ones (retrained released code does, see docs/footguns.md).
    """
    if record["method"]["control"]:
        return []
    warnings = []
    health = [part["health"] for part in record["fit"].values() if "health" in part]
    if any(part["synthetic_residual"] <= part["clean_residual"] for part in health):
        warnings.append("damaged training images have no larger residual than clean ones")
    rows = metrics.select(["category", "metric", "value"]).to_pylist()
    known = [row for row in rows if row["metric"] == "i_auroc" and row["value"] is not None]
    below = [row["category"] for row in known if row["value"] < 0.5]
    if below:
        warnings.append(f"I-AUROC below 50 % on {', '.join(below)}")
    return warnings


def _spent(record: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of runs.parquet that come from a cell's record."""
    keys = ("draw", "fit_seconds", "score_seconds", "images", "peak_memory_bytes", "device")
    summed = {key: sum(part.get(key, 0) for part in record["fit"].values()) for key in ("parameters", "state_bytes")}
    versions = " ".join(f"{name}={number}" for name, number in sorted(record["versions"].items()))
    found = {"host": record["machine"]["host"], "versions": versions, "record": json.dumps(record, sort_keys=True)}
    return {key: record[key] for key in keys} | summed | found
