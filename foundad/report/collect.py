"""Stage ``collect``: puts the metrics of all cells into one long table, and their records into another.

metrics.parquet holds numbers, each with the hash of its draw, and is byte-identical from run to run. Times, hosts,
versions and failures are in runs.parquet. A missing cell is an error; a failed one is a row of runs.parquet.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

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


def collect(cells: Mapping[Cell, tuple[str, str]], results: Results) -> None:
    """Write metrics.parquet and runs.parquet, rows sorted by cell, category and metric.

    Args:
        cells: cell -> the keys that its fit and its evaluation must have.

    Raises:
        BrokenFile: files of cells are missing, damaged, or made with another config, other data or another version, or
            metrics do not belong to the scores beside them; one line per cell.
    """
    tables, runs, problems = [], [], []
    for cell in sorted(cells):
        try:
            run, table = _cell(cell, results.cell(cell), *cells[cell])
        except BrokenFile as error:
            problems.append(str(error))
            continue
        runs.append(run)
        if table is not None:
            tables.append(table)
    if problems:
        more = [f"and {len(problems) - SHOWN_PROBLEMS} more"] if len(problems) > SHOWN_PROBLEMS else []
        cure = ["make such cells again with: snakemake --cores all --forcerun fit"] if len(problems) > 1 else []
        raise BrokenFile("\n".join([*problems[:SHOWN_PROBLEMS], *more, *cure]))
    metrics = pa.concat_tables(tables) if tables else RESULTS_SCHEMA.empty_table()
    write_parquet(results.metrics, Seal("results"), metrics)
    write_parquet(results.runs, Seal("runs"), pa.Table.from_pylist(runs, schema=RUNS_SCHEMA))


def _cell(cell: Cell, folder: Path, fit: str, evaluation: str) -> tuple[dict[str, Any], pa.Table | None]:
    """The row of a cell in runs.parquet, and its metrics; the metrics are None if it failed."""
    metrics, record = folder / "metrics.parquet", folder / "record.json"
    for path in (metrics, record):
        if not path.is_file():
            raise BrokenFile(f"{path}: there is no such file; make it with: snakemake --cores all")
    reason = failure_of(metrics, evaluation) or failure_of(record, fit)
    row: dict[str, Any] = asdict(cell) | {"status": "failed" if reason else "done", "reason": reason}
    if failure_of(record) is not None:
        return row, None
    facts = read_json(record, "record", fit).facts
    row |= _spent(facts)
    if reason is not None:
        return row, None
    table, seal = read_parquet(metrics, "metrics", evaluation)
    if seal.facts.get("scores") != facts.get("scores") or set(table["method"].to_pylist()) - {cell.method}:
        raise broken(metrics, "does not belong to the scores beside it")
    table = table.cast(METRICS_SCHEMA)
    row["warnings"] = "; ".join(health_warnings(facts, table)) or None
    return row, table.append_column("draw", pa.array([row["draw"]] * table.num_rows, pa.string()))


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
