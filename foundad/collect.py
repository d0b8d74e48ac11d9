"""Stage ``collect``: the metrics of all cells in one long table, and their records in another.

metrics.parquet holds numbers alone and is byte-identical from run to run; times, hosts, versions and failures live in
runs.parquet. Missing cells are an error, failed ones are rows of runs.parquet.
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

RUNS_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("encoder", pa.string()),
        ("method", pa.string()),
        ("shots", pa.int32()),
        ("seed", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("draw", pa.string()),
        ("parameters", pa.int64()),
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
        runs.append(_run(cell, folder, reason))
        if reason is None:
            tables.append(pq.read_table(folder / "metrics.parquet", schema=METRICS_SCHEMA))
    metrics = pa.concat_tables(tables) if tables else METRICS_SCHEMA.empty_table()
    write_parquet(metrics, results.metrics)
    write_parquet(pa.Table.from_pylist(runs, schema=RUNS_SCHEMA), results.runs)


def _run(cell: Cell, folder: Path, reason: str | None) -> dict[str, Any]:
    row: dict[str, Any] = asdict(cell) | {"status": "failed", "reason": reason}
    if failure_of(folder / "record.json") is not None:
        return row
    text = (folder / "record.json").read_text(encoding="utf-8")
    record = json.loads(text)
    keys = ("draw", "fit_seconds", "score_seconds", "images", "peak_memory_bytes", "device")
    parameters = sum(part.get("parameters", 0) for part in record["fit"].values())
    row |= {key: record[key] for key in keys} | {"host": record["machine"]["host"], "parameters": parameters}
    return row | {"record": text, "status": "failed" if reason else "done"}
