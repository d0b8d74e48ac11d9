"""Stage ``collect``: the metrics of all cells in one long table, and their records in another.

metrics.parquet holds numbers with the hash of the draw behind each, and is byte-identical from run to run; times, hosts,
versions and failures live in runs.parquet. Missing cells are an error, failed ones are rows of runs.parquet.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from foundad.evaluate import METRICS_SCHEMA
from foundad.failures import failure_of
from foundad.files import write_parquet
from foundad.paths import Cell, Results

# Of a cell, and the hash of the draw that it learned from; empty where a control learns nothing.
RESULTS_SCHEMA = METRICS_SCHEMA.append(pa.field("draw", pa.string()))
RUNS_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("encoder", pa.string()),
        ("method", pa.string()),
        ("shots", pa.int32()),
        ("seed", pa.int32()),
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
        ("record", pa.string()),
    ]
)


def collect(cells: Sequence[Cell], results: Results) -> None:
    """Write metrics.parquet and runs.parquet of ``cells``, rows sorted by cell, category and metric."""
    tables, runs = [], []
    for cell in sorted(cells):
        folder = results.cell(cell)
        reason = failure_of(folder / "metrics.parquet") or failure_of(folder / "record.json")
        run = _run(cell, folder, reason)
        runs.append(run)
        if reason is None:
            table = pq.read_table(folder / "metrics.parquet", schema=METRICS_SCHEMA)
            tables.append(table.append_column("draw", pa.array([run["draw"]] * table.num_rows, pa.string())))
            run["warnings"] = "; ".join(health_warnings(json.loads(run["record"]), table)) or None
    metrics = pa.concat_tables(tables) if tables else RESULTS_SCHEMA.empty_table()
    write_parquet(metrics, results.metrics)
    write_parquet(pa.Table.from_pylist(runs, schema=RUNS_SCHEMA), results.runs)


def health_warnings(record: dict[str, Any], metrics: pa.Table) -> list[str]:
    """What makes a finished cell suspicious; controls never are.

    A projector that restores damaged training images no better than clean ones has learned nothing; an image AUROC
    below 0.5 ranks normal images above defective ones (retrained released code does, see docs/footguns.md).
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


def _run(cell: Cell, folder: Path, reason: str | None) -> dict[str, Any]:
    row: dict[str, Any] = asdict(cell) | {"status": "failed", "reason": reason}
    if failure_of(folder / "record.json") is not None:
        return row
    text = (folder / "record.json").read_text(encoding="utf-8")
    record = json.loads(text)
    keys = ("draw", "fit_seconds", "score_seconds", "images", "peak_memory_bytes", "device")
    summed = {key: sum(part.get(key, 0) for part in record["fit"].values()) for key in ("parameters", "state_bytes")}
    row |= {key: record[key] for key in keys} | {"host": record["machine"]["host"]} | summed
    return row | {"record": text, "status": "failed" if reason else "done"}
