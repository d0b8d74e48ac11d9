"""Runs a rehearsal with the real Snakemake and the real rules, and measures the size of its files on disk."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from foundad.files import TEMPORARY
from foundad.plan.copies import environment
from foundad.rehearsal.project import CONFIG, Rehearsal

LOG = "rehearsal.log"  # the output of Snakemake
EVERY = 1.0  # seconds between two measurements of the disk
TELL = 30.0  # seconds between two lines of progress
TARGETS = ("all", "results/figures/datasets")


@dataclass
class Measured:
    """Time and disk space of a rehearsal.

    seconds: wall time. code: exit code of Snakemake. peak: largest number of bytes of features, banks, models and
    scores together. parts: bytes of each of them at that time.
    """

    seconds: float = 0.0
    code: int = 0
    peak: int = 0
    parts: Counter[str] = field(default_factory=Counter)


def run(rehearsal: Rehearsal, cores: int, cells: int) -> Measured:
    """Run a rehearsal, and print a line of progress every half minute.

    Args:
        rehearsal: the rehearsal to run.
        cores: number of CPU cores to use.
        cells: number of cells in all, for the line of progress.
    """
    measured, start, told = Measured(), time.monotonic(), 0.0
    results = rehearsal.folder / rehearsal.values["results"]
    # Targets come first, because --configfile reads every following word as a file name.
    command = [
        sys.executable,
        "-m",
        "snakemake",
        *TARGETS,
        "--cores",
        str(cores),
        "--keep-going",
        "--configfile",
        CONFIG,
    ]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that Snakemake is ended below
    with (rehearsal.folder / LOG).open("w") as log:
        process = subprocess.Popen(command, cwd=rehearsal.folder, stdout=log, stderr=log, env=environment())
        try:
            while process.poll() is None:
                done = _look(results, measured)
                measured.seconds = time.monotonic() - start
                if measured.seconds - told >= TELL:
                    told = measured.seconds
                    print(
                        f"{told / 60:6.1f} min  {done} of {cells} cells, {measured.peak / 1e6:.0f} MB at most",
                        flush=True,
                    )
                time.sleep(EVERY)
        finally:
            if process.poll() is None:  # this process was interrupted: Snakemake ends its jobs at once
                process.terminate()
                process.wait()
    measured.seconds, measured.code = time.monotonic() - start, process.returncode
    _look(results, measured)
    if measured.code:
        print(f"Snakemake exited with code {measured.code}; see {rehearsal.folder / LOG}", file=sys.stderr)
    return measured


def _look(results: Path, measured: Measured) -> int:
    """Add up the sizes of the large files that exist now. Returns the number of evaluated cells."""
    now: Counter[str] = Counter()
    done = 0
    for top in ("features", "banks", "masks", "cells"):
        for folder, _, names in os.walk(results / top):
            for name in names:
                done += name == "metrics.parquet"
                kind = kind_of(top, name)
                if kind:
                    try:
                        now[kind] += os.stat(os.path.join(folder, name)).st_size
                    except FileNotFoundError:
                        continue  # deleted in the meantime
    if now.total() > measured.peak:
        measured.peak, measured.parts = now.total(), now
    return done


def kind_of(top: str, name: str) -> str:
    """The kind that the plan counts a file of the results as: features, banks, models, scores, masks, or empty for none.

    Args:
        top: the top folder of the file in the results: features, banks, masks or cells.
        name: the name of the file.
    """
    if top != "cells":
        return top
    plain = name.removeprefix(".")
    for stem in ("model", "scores"):
        if plain.startswith(f"{stem}.") and (plain.endswith(".safetensors") or TEMPORARY in plain):
            return stem if stem == "scores" else "models"
    return ""
