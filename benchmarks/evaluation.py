"""Compares the stage ``evaluate`` of one cell with the same stage of another commit, in one run on one thread.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py [--dataset textures] [--against COMMIT] [--rounds 3]

The scores are noise that is higher on defects. Times are processor time of warm processes: each runs the stage once
before it is timed, and the processes take turns. Without ``--against``, the competitor decodes the masks at every
evaluation. Both write the same metrics, up to the last digits.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from harness import Figures

from foundad.cells import Cell
from foundad.cli import main as foundad
from foundad.data.manifest import read_manifest
from foundad.metrics.defects import read_defects
from foundad.paths import Results
from foundad.plan.catalogue import load_one
from foundad.scores import Scores, write_scores

ROOT = Path(__file__).parent.parent
ENCODER = "efficientnet-lite0"
GRID = 16
# Runs commands once, then prints the processor time of each of several rounds.
CHILD = """
import json, sys, time
from foundad.cli import main
commands, rounds, seconds = json.loads(sys.argv[1]), int(sys.argv[2]), []
for _ in range(rounds + 1):
    started = time.process_time()
    assert not any([main(command) for command in commands])
    seconds.append(time.process_time() - started)
print(json.dumps(seconds[1:]))
"""


def prepare(folder: Path, dataset: str) -> tuple[list[str], Cell]:
    """Make manifest, masks and scores of one cell; returns the options of every command, and the cell."""
    shutil.copytree(ROOT / "config", folder / "config")
    results = Results(folder / "results")
    options = ["--config", str(folder / "config"), "--results", str(results.root), "--key", "benchmark"]
    settings = load_one(folder / "config", "datasets", dataset)
    side = load_one(folder / "config", "encoders", ENCODER).image_size
    if settings.generator:
        run([[settings.generator, *options]])
    run([["manifest", dataset, *options], ["masks", dataset, "--side", str(side), *options]])
    test = read_manifest(results.manifest(dataset, "test")).test
    image_ids = [row.image_id for row in test]
    defects = read_defects(results.masks(dataset, side), image_ids)
    assert defects is not None, f"{dataset} has no masks"
    step = side // GRID
    shares = [defects.mask(number).reshape(GRID, step, GRID, step).mean((1, 3)) for number in range(len(test))]
    noise = np.random.default_rng(0).gamma(4.0, size=(len(test), GRID, GRID))
    patch_scores = (noise + 4 * np.stack(shares)).astype(np.float32)
    cell = Cell(dataset, ENCODER, "knn", 1, 0)
    unknown = np.full(len(test), np.nan, np.float32)
    scores = Scores(patch_scores, patch_scores.max((1, 2)), unknown)
    write_scores(results.cell(cell) / "scores.safetensors", scores, cell, image_ids)
    return options, cell


def run(commands: Sequence[Sequence[str]]) -> None:
    """Run commands of foundad in this process."""
    for command in commands:
        if foundad(command):
            raise SystemExit(f"foundad {' '.join(command)} failed")


def source_of(commit: str, folder: Path) -> Path:
    """The sources of ``commit`` below ``folder``."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", commit, "foundad", "baselines"], cwd=ROOT, check=True, capture_output=True
    )
    subprocess.run(["tar", "x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def timed(ways: Mapping[str, tuple[Path, list[list[str]]]], metrics: Path, rounds: int) -> dict[str, float]:
    """Median seconds of every way (sources and commands) over turns; prints how much the metrics differ from the first's."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    written: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, (source, commands) in ways.items():
            done = subprocess.run(
                [sys.executable, "-P", "-c", CHILD, json.dumps(commands), "2"],
                env=os.environ | {"PYTHONPATH": str(source)},
                cwd=ROOT,
                check=True,
                capture_output=True,
            )
            seconds[name] += json.loads(done.stdout)
            written[name] = pd.read_parquet(metrics)["value"].to_numpy()
    first = next(iter(written.values()))
    for name, values in written.items():
        difference = np.nanmax(np.abs(values - first))
        same = np.array_equal(values, first, equal_nan=True)
        print(f"  metrics of {name}: {'the same bits' if same else f'at most {difference:.1g} apart'}")
    return {name: statistics.median(values) for name, values in seconds.items()}


def sorting(results: Results, cell: Cell, side: int) -> float:
    """The floor: seconds to sort all pixels, category by category."""
    found = read_manifest(results.manifest(cell.dataset, "test")).test
    counts = pd.Series([row.category for row in found]).value_counts()
    pixels = [np.random.default_rng(0).random(count * side**2, np.float32) for count in counts]
    started = time.process_time()
    for scores in pixels:
        scores.sort()
    return time.process_time() - started


def compare(dataset: str, commit: str | None, rounds: int, bar: str = "") -> None:
    """Print and store the comparison."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options, cell = prepare(folder, dataset)
        results, side = Results(folder / "results"), load_one(folder / "config", "encoders", ENCODER).image_size
        place = [cell.dataset, cell.encoder, cell.method, "--shots", str(cell.shots), "--seed", str(cell.seed)]
        evaluate = ["evaluate", *place, *options]
        masks = ["masks", dataset, "--side", str(side), *options]
        ways = {"ours": (ROOT, [evaluate]), "ours with its masks": (ROOT, [masks, evaluate])}
        if commit:
            ways[commit] = (source_of(commit, folder / "sources"), [evaluate])
        figures = Figures("evaluation", f"seconds of processor time, one cell of {dataset} at {side} x {side}")
        seconds = timed(ways, results.cell(cell) / "metrics.parquet", rounds)
        other = commit or "ours with its masks"
        ratio = seconds[other] / seconds["ours"]
        note = f"against {other}; with its masks {seconds['ours with its masks']:.3g}"
        floor = sorting(results, cell, side)
        figures.add("evaluate", seconds["ours"], seconds[other], floor, bar, ratio if bar else None, note)
        figures.finish()


def main() -> None:
    """Read the options and compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="textures")
    parser.add_argument("--against", metavar="COMMIT", help="whose evaluation is the competitor")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    compare(options.dataset, options.against, options.rounds, ">= 1.5" if options.against else "")


if __name__ == "__main__":
    main()
