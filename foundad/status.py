"""Stage ``status``: says which cells failed and why, and fails if any did; the last job of every run."""

import sys

from foundad.files import write_text
from foundad.paths import Results
from foundad.sealed import read_run_table


def write_status(results: Results) -> int:
    """Write status.txt when every cell is done; otherwise print the failed ones and return 1."""
    runs = read_run_table(results.runs, ["dataset", "encoder", "method", "shots", "seed", "status", "reason"])
    rows = runs.to_pylist()
    failed = [row for row in rows if row["status"] != "done"]
    if not failed:
        write_text(results.root / "status.txt", f"{len(rows)} cells done\n")
        return 0
    by_reason: dict[str, list[str]] = {}
    for row in failed:
        cell = f"{row['dataset']}/{row['encoder']}/{row['method']}/k{row['shots']}-s{row['seed']}"
        by_reason.setdefault(row["reason"], []).append(cell)
    print(f"{len(failed)} of {len(rows)} cells failed; they are dashes in the tables:", file=sys.stderr)
    for reason, cells in by_reason.items():
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        print(f"  {cells[0]}{more}: {reason}", file=sys.stderr)
    return 1
