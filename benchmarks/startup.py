"""Measures what it costs to start a job: the imports of every stage, against importing all that the package uses.

    OMP_NUM_THREADS=1 python benchmarks/startup.py [--rounds 3]

Snakemake starts one process per job. The straightforward way imports everything at the top; the floor is an empty
interpreter. Times are processor seconds of fresh processes, which other work on the machine disturbs less than wall
time, as medians of interleaved rounds.

A warm job is a client and a fork of a process that has imported everything (foundad.warm); that process is paid for once per
run.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from harness import Figures

from foundad.warm import command

STAGES = {
    "masks": "foundad.cli, foundad.metrics.masks, scipy.sparse.csgraph",
    "draw": "foundad.cli, foundad.data.draws, foundad.data.manifest",
    "features": "foundad.cli, foundad.encoders.extraction, foundad.encoders.libraries.timm",
    "bank": "foundad.cli, foundad.pairs.encoder, foundad.encoders.libraries.timm",
    "fit, FoundAD": "foundad.cli, foundad.detection.fitting, foundad.method.detector",
    "fit, nearest neighbour": "foundad.cli, foundad.detection.fitting, baselines.knn",
    "evaluate": "foundad.cli, foundad.metrics.evaluation",
    "collect": "foundad.cli, foundad.report.collect",
    "table": "foundad.cli, foundad.report.tables.metrics, pandas",
}
EVERYTHING = (
    "torch, torch._dynamo, torchvision, timm, open_clip, transformers, sklearn.metrics, skimage.morphology, pandas, "
    "matplotlib.pyplot, scipy.stats"
)


def seconds(imports: str) -> float:
    """User and system time in seconds of a process that imports ``imports``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {imports}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def warm(stage: str, jobs: int = 20) -> float:
    """Processor seconds of a warm job that ends as soon as it has begun: of its client, and of the fork."""
    with subprocess.Popen(["sleep", "600"]) as parent:
        try:
            client = [*command(parent.pid), stage, "--help"]
            subprocess.run(client, check=True, stdout=subprocess.DEVNULL)
            server = subprocess.run(
                ["pgrep", "-f", f"foundad.warm.server .*-{parent.pid} "], capture_output=True, text=True
            )
            stat = Path(f"/proc/{server.stdout.split()[0]}/stat")

            def spent() -> float:
                fields = stat.read_text().rpartition(") ")[2].split()  # utime, stime, and those of ended children
                own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
                clients = resource.getrusage(resource.RUSAGE_CHILDREN)
                return own + clients.ru_utime + clients.ru_stime

            before = spent()
            for _ in range(jobs):
                subprocess.run(client, check=True, stdout=subprocess.DEVNULL)
            return (spent() - before) / jobs
        finally:
            parent.kill()


def main() -> None:
    """Print one line per stage, and what a warm job of it costs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ways = {"floor": "sys", "everything": EVERYTHING} | STAGES
    for imports in ways.values():
        seconds(imports)  # compiles bytecode and fills the page cache
    found = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, imports in ways.items():
            found[name].append(seconds(imports))
    medians = {name: statistics.median(values) for name, values in found.items()}
    figures = Figures("startup", "seconds of processor time a job")
    for name in STAGES:
        figures.add(name, medians[name], medians["everything"], medians["floor"])
        ours = warm(name.partition(",")[0])
        figures.add(f"{name}, warm", ours, medians[name], medians["floor"], "0.15 s", ours)
    figures.finish()


if __name__ == "__main__":
    main()
