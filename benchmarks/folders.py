"""Results folders of thousands of cells: merging three, collecting one, comparing two; processor time and memory of each.

    python benchmarks/folders.py [--seeds 10]

Invents 300 cells per seed (2 datasets of 15 categories, 5 encoders, 10 methods, 3 shots) with all files that stages write.
The folders are split by seed. The merged metrics.parquet must be that of one folder, and contradictions that are planted
in a copy must all be found. Straightforward: cp -a of the three folders; pandas that reads and joins all tables.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from harness import Figures

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT / "tests"), str(ROOT / "tests/folders")]

from conftest import TINY_ENCODER, write_yaml  # noqa: E402
from invented import manifest_of, write_cell, write_failed, write_study  # noqa: E402

from foundad.cells import AXES, Cell  # noqa: E402
from foundad.data.draws import read_draw  # noqa: E402
from foundad.paths import Results  # noqa: E402
from foundad.plan.selection import Plan  # noqa: E402
from foundad.report.collect import Keys  # noqa: E402

CATEGORIES, PLANTED, SECONDS, MEGABYTES = 15, 60, 60, 1000
manifest = partial(manifest_of, categories=CATEGORIES)


def write_config(seeds: int) -> None:
    """An experiment of 300 cells per seed, whose keys need no data."""
    names = {"datasets": ["d0", "d1"], "encoders": [f"e{n}" for n in range(5)], "methods": [f"m{n}" for n in range(10)]}
    made = {"title": "Made", "layout": "mvtec", "generator": "textures", "licence": "CC0", "source": "invented"}
    nearest = {"title": "Nearest", "detector": "knn", "bank": {"pairs": 8}}
    for kind, values in (("datasets", made), ("encoders", TINY_ENCODER), ("methods", nearest)):
        for name in names[kind]:
            write_yaml(Path(f"config/{kind}/{name}.yaml"), values | {"title": name})
    grid = names | {"shots": [1, 2, 4], "seeds": list(range(seeds))}
    write_yaml(Path("config/experiments/many.yaml"), {"title": "Many", "cells": [grid]})
    write_yaml(Path("config/config.yaml"), {"experiments": ["many"], "device": "cpu"})


class Used(NamedTuple):
    """What a command took: processor seconds, seconds on the wall, megabytes, exit code, and what it said."""

    seconds: float
    wall: float
    megabytes: float
    code: int
    errors: str


def measured(*arguments: str | Path) -> Used:
    """A command of foundad in its own process."""
    command = [sys.executable, "-m", "foundad", *map(str, arguments)]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors, open(os.devnull, "w") as nothing:
        process = subprocess.Popen(command, stdout=nothing, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        errors.seek(0)
        seconds = used.ru_utime + used.ru_stime
        return Used(seconds, wall, used.ru_maxrss / 1024, os.waitstatus_to_exitcode(status), errors.read())


def split(source: Path, into: Path, cells: Iterable[Cell]) -> None:
    """A folder with some of the cells of another; their files are links, which no command writes to."""
    for name in ("manifests", "draws"):
        shutil.copytree(source / name, into / name, copy_function=os.link)
    for cell in cells:
        shutil.copytree(Results(source).cell(cell), Results(into).cell(cell), copy_function=os.link)


def timed(way: Callable[[], object]) -> float:
    """Processor seconds of this process and of those that it starts."""
    before = os.times()
    way()
    return sum(os.times()[:4]) - sum(before[:4])


def copied(sources: Iterable[Path], into: Path) -> None:
    """What one does by hand."""
    into.mkdir()
    for source in sources:
        subprocess.run(["cp", "-a", f"{source}/.", into], check=True)


def read_all(root: Path) -> pd.DataFrame:
    """All metrics of a folder, with pandas."""
    return pd.concat([pd.read_parquet(path) for path in sorted((root / "cells").rglob("metrics.parquet"))])


def joined(a: Path, b: Path) -> float:
    """The largest difference of two folders, with pandas."""
    keys = [*AXES, "category", "metric"]
    table = pd.read_parquet(a / "metrics.parquet").merge(pd.read_parquet(b / "metrics.parquet"), on=keys)
    return float((table["value_x"] - table["value_y"]).abs().max())


def plant(results: Results, cells: list[Cell], keys: Callable[[Cell], Keys]) -> None:
    """A contradiction in each of ``cells``: another number, another key or a failure, in turn."""
    for number, cell in enumerate(cells):
        drawn = read_draw(results.draw(cell.dataset, cell.shots, cell.seed)).hash
        own = keys(cell)
        if number % 3 == 0:
            write_cell(results, cell, manifest(cell.dataset), drawn, own, shift=1e-9)
        elif number % 3 == 1:
            write_cell(results, cell, manifest(cell.dataset), drawn, Keys("0" * 16, own.evaluation))
        else:
            write_failed(results, cell, "dataset: is broken", own)


def report(figures: Figures, what: str, used: Used, straightforward: float) -> None:
    """One command beside the straightforward way and the bars."""
    assert used.code == 0, used.errors
    bar, note = f"<= {SECONDS}", f"{used.wall:.1f} s on the wall"
    figures.add(f"{what}, seconds", used.seconds, straightforward, bar=bar, ratio=used.seconds, note=note)
    figures.add(f"{what}, MB", used.megabytes, bar=f"<= {MEGABYTES}", ratio=used.megabytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10, help="at least 3")
    seeds = parser.parse_args().seeds
    folder = tempfile.TemporaryDirectory()
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    os.chdir(folder.name)
    write_config(seeds)
    plan = Plan({"experiments": ["many"]}, Path("config"))
    keys = lambda cell: Keys(*plan.keys.of_files(cell))  # noqa: E731
    figures = Figures("folders", f"{len(plan.cells)} cells in all")
    write_study(Path("results"), plan.cells, manifest, keys)
    thirds = [Path(f"part-{number}") for number in range(3)]
    for number, path in enumerate(thirds):
        split(Path("results"), path, [cell for cell in plan.cells if cell.seed % 3 == number])

    report(figures, "collect", measured("collect"), timed(lambda: read_all(Path("results"))))
    by_hand = timed(lambda: copied(thirds, Path("by-hand")))
    report(figures, "merge", measured("merge", *thirds, "--into", "merged"), by_hand)
    report(figures, "merge again", measured("merge", *thirds, "--into", "merged"), by_hand)
    whole, merged = (Path(name, "metrics.parquet").read_bytes() for name in ("results", "merged"))
    print(f"  merged metrics.parquet byte-identical to that of one folder: {'yes' if whole == merged else 'NO'}")
    pandas = timed(lambda: joined(Path("results"), Path("merged")))
    report(figures, "compare", measured("compare", "results", "merged"), pandas)

    shutil.copytree("part-0", "other", copy_function=os.link)
    chosen = np.random.default_rng(0).permutation(len(plan.cells))
    of_part = [plan.cells[number] for number in chosen if plan.cells[number].seed % 3 == 0][:PLANTED]
    plant(Results(Path("other")), of_part, keys)
    refused = measured("merge", "part-0", "other", "--into", "contradicted")
    lines = refused.errors.splitlines()
    found = len([line for line in lines if " and other (" in line])
    found += sum(int(line.split()[1]) for line in lines if line.startswith("and "))
    written = "something" if Path("contradicted").exists() else "nothing"
    print(f"  contradictions planted {PLANTED}, found {found}, exit code {refused.code}, {written} written")
    figures.finish()
    os.chdir(ROOT)
    folder.cleanup()


if __name__ == "__main__":
    main()
