"""Runs a rehearsal with the real Snakemake and the real rules, and measures what it holds on the disk."""

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from foundad.files import TEMPORARY
from foundad.rehearsal.project import Rehearsal, environment

LOG = "rehearsal.log"  # what Snakemake says
EVERY = 1.0  # seconds between two looks at the disk
TELL = 30.0  # seconds between two lines of progress
TARGETS = ("all", "results/figures/datasets")


@dataclass
class Measured:
    """What a rehearsal took.

    seconds: wall time. code: exit code of Snakemake. peak: bytes of features, banks, models
    and scores together, when they were most. parts: the same, each.
    """

    seconds: float = 0.0
    code: int = 0
    peak: int = 0
    parts: Counter[str] = field(default_factory=Counter)


def run(rehearsal: Rehearsal, cores: int, cells: int) -> Measured:
    """Run it on so many cores; a line of progress every half minute."""
    measured, start, told = Measured(), time.monotonic(), 0.0
    results = rehearsal.folder / rehearsal.values["results"]
    # Targets stand first: --configfile takes every word behind it.
    command = [*rehearsal.command[:3], *TARGETS, "--cores", str(cores), *rehearsal.command[3:]]
    with (rehearsal.folder / LOG).open("w") as log:
        process = subprocess.Popen(
            [*command, "--keep-going"], cwd=rehearsal.folder, stdout=log, stderr=log, env=environment()
        )
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
            if process.poll() is None:  # we are interrupted: it ends its jobs, and waits for none
                process.terminate()
                process.wait()
    measured.seconds, measured.code = time.monotonic() - start, process.returncode
    _look(results, measured)
    if measured.code:
        print(f"Snakemake ended with {measured.code}; its last words are in {rehearsal.folder / LOG}", file=sys.stderr)
    return measured


def _look(results: Path, measured: Measured) -> int:
    """Add up the large files that are there now; returns how many cells are evaluated."""
    now: Counter[str] = Counter()
    done = 0
    for top in ("features", "banks", "cells"):
        for folder, _, names in os.walk(results / top):
            for name in names:
                done += name == "metrics.parquet"
                kind = kind_of(top, name)
                if kind:
                    try:
                        now[kind] += os.stat(os.path.join(folder, name)).st_size
                    except FileNotFoundError:
                        continue  # it went while we looked
    if now.total() > measured.peak:
        measured.peak, measured.parts = now.total(), now
    return done


def kind_of(top: str, name: str) -> str:
    """What a file below the results is to the plan: features, banks, models, scores, or nothing of these."""
    if top != "cells":
        return top
    plain = name.removeprefix(".")
    for stem in ("model", "scores"):
        if plain.startswith(f"{stem}.") and (plain.endswith(".safetensors") or TEMPORARY in plain):
            return stem if stem == "scores" else "models"
    return ""
