"""What a cell costs on Slurm beside its stages: processor time of a tiny study's Snakemakes, per cell.

    bash tests/workflow/start_slurm.sh start          # a Slurm of two nodes on this machine, as root
    OMP_NUM_THREADS=1 python benchmarks/cluster.py [--seeds 8]

Every Python process of the run writes at its end what it was and how much processor time it took. Stages are the processes
`foundad <stage>`; all others are overhead: the Snakemake that submits, and those inside the jobs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from harness import Figures

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "tests"), str(ROOT / "tests/workflow")]

AT_EXIT = """
import atexit, json, os, sys, time

def _say():
    spent = os.times()
    kind = "stage" if "foundad" in " ".join(sys.orig_argv[:4]) else "overhead"
    path = os.path.join(os.environ["FOUNDAD_SPENT"], f"{os.getpid()}-{time.time_ns()}.json")
    with open(path, "w") as file:
        json.dump([kind, spent.user + spent.system], file)

atexit.register(_say)
"""


def study(folder: Path, seeds: int) -> None:
    """Two datasets, one encoder, four methods, one shot."""
    from conftest import write_yaml
    from laboratory import EXPERIMENT, copy_workflow, write_config, write_data

    write_data(folder)
    datasets, methods = ["bolts", "listed"], ["knn", "random", "oracle", "foundad"]
    write_config(folder, datasets, ["tiny"], methods)
    (folder / "data/draws.csv").unlink()
    grid = {"datasets": datasets, "encoders": ["tiny"], "methods": methods, "shots": [1], "seeds": list(range(seeds))}
    tables = {"main": EXPERIMENT["tables"]["main"]}
    write_yaml(folder / "config/experiments/small.yaml", {"title": "Small", "cells": [grid], "tables": tables})
    path = folder / "config/datasets/listed.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("draws")))
    copy_workflow(folder)


def spent(folder: Path, *arguments: str) -> tuple[Counter[str], float]:
    """Processor seconds by kind of process, and wall seconds, of a run."""
    watch, notes = folder / "watch", folder / "spent"
    watch.mkdir()
    notes.mkdir()
    (watch / "sitecustomize.py").write_text(AT_EXIT)
    paths = os.pathsep.join([str(watch), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "FOUNDAD_SPENT": str(notes)}
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "results/tables"],
        cwd=folder,
        env=environment,
        check=True,
        stdout=sys.stderr,
    )
    wall = time.perf_counter() - started
    total: Counter[str] = Counter()
    for path in notes.glob("*.json"):
        kind, seconds = json.loads(path.read_text())
        total[kind] += seconds
    return total, wall


def main() -> None:
    """One line for Slurm and one for this machine alone."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    figures = Figures("cluster", "seconds of processor time per cell, beside the stages")
    cells = 2 * 4 * options.seeds
    ways = {"Slurm, in batches": ("--profile", "profiles/slurm"), "this machine, one cell per job": ()}
    for name, arguments in ways.items():
        with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
            study(Path(folder), options.seeds)
            total, wall = spent(Path(folder), *arguments)
        ours = total["overhead"] / cells
        note = f"{cells} cells, stages {total['stage'] / cells:.2f} s per cell, {wall:.0f} s of wall time"
        bar = "1.5 s" if arguments else ""
        figures.add(name, ours, bar=bar, ratio=ours if arguments else None, note=note)
    figures.finish()


if __name__ == "__main__":
    main()
