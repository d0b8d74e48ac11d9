"""Measures what Snakemake costs before the first job: a dry run of the demo, of its study and of the paper's study.

    OMP_NUM_THREADS=1 python benchmarks/workflow.py [--rounds 3]

The floor is Snakemake saying its version, which is its imports alone. The paper is planned twice: in batches, as a user
runs it, and with a job for each stage of each cell. If the demo's tables are finished in the folder where this runs, the
call that finds nothing to do is measured as well. Times are processor seconds of fresh processes, as medians.
"""

import argparse
import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from harness import Figures

SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "8"]
EVERYTHING = "{features: all, banks: all, models: all}"
STUDIES = {
    "demo": [],
    "demo study": ["--configfile", "config/study.yaml"],
    "paper in batches": ["--configfile", "config/paper.yaml"],
    "paper, a job for each stage of each cell": ["--configfile", "config/paper.yaml", "--config", f"keep={EVERYTHING}"],
}


def seconds(words: list[str], rounds: int) -> tuple[float, str]:
    """Median user and system time in seconds of a command, and what it prints."""
    found = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(words, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        found.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return statistics.median(found), done.stdout + done.stderr


def main() -> None:
    """Print one line for each study, and one for the call that finds nothing to do."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    figures = Figures("workflow", "processor seconds of a call of Snakemake")
    floor, _ = seconds([*SNAKEMAKE, "--version"], options.rounds)
    for study, words in STUDIES.items():
        spent, said = seconds([*SNAKEMAKE, "-n", *words], options.rounds)
        jobs = re.search(r"^total +(\d+)", said, re.MULTILINE)
        bar = {"bar": "at most 10 s", "ratio": spent} if study.startswith("paper") else {}
        figures.add(study, spent, floor=floor, note=f"{jobs[1] if jobs else 0} jobs", **bar)
    if Path("results/tables").is_dir():
        spent, said = seconds([*SNAKEMAKE, "results/tables"], options.rounds)
        assert "Nothing to be done" in said, "the demo's tables are not finished: call `make tables` first"
        figures.add("nothing to do in the demo", spent, floor=floor, bar="at most 1.5 s", ratio=spent)
    figures.finish()


if __name__ == "__main__":
    main()
