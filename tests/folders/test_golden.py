"""A small study of real pictures gives the numbers that are committed, on every machine: tests/golden/study.parquet.

The embedded textures and an encoder that comes as a package, without a download: controls, nearest neighbours, and FoundAD
with twenty steps. Last bits differ between processors, so numbers may differ a little. After a change that is meant to
change numbers, write them anew and commit them:

    python tests/folders/test_golden.py
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests/golden/study.parquet"
TOLERANCE = 0.01  # of a share; another processor or a GPU moves a trained model by less (docs/performance.md)
ENCODER, TRAINED = "efficientnet-lite0", {"base": "foundad", "vary": {"bank.pairs": [8], "training.steps": [20]}}
METHODS = ["random", "oracle", "knn", "foundad@bank.pairs=8,training.steps=20"]


def run(folder: Path) -> Path:
    """Run the study in ``folder`` stage by stage, as the workflow does; returns its results."""
    from foundad.cli import main

    for name in (
        "datasets/textures",
        f"encoders/{ENCODER}",
        *(f"methods/{name.partition('@')[0]}" for name in METHODS),
    ):
        (folder / f"config/{name}.yaml").parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / f"config/{name}.yaml", folder / f"config/{name}.yaml")
    grid = {
        "datasets": ["textures"],
        "encoders": [ENCODER],
        "methods": [*METHODS[:-1], TRAINED],
        "shots": [1],
        "seeds": [0],
    }
    (folder / "config/experiments").mkdir()
    (folder / "config/experiments/golden.yaml").write_text(yaml.safe_dump({"title": "Golden", "cells": [grid]}))
    os.chdir(folder)
    draw = ["--shots", "1", "--seed", "0"]
    stages = [["textures"], ["manifest", "textures"], ["draw", "textures", *draw]]
    stages += [["masks", "textures", "--side", "256"], ["features", "textures", ENCODER, "--device", "cpu"]]
    stages += [["bank", "textures", ENCODER, name, *draw, "--device", "cpu"] for name in METHODS[2:]]
    for name in METHODS:
        stages += [
            ["fit", "textures", ENCODER, name, *draw, "--device", "cpu"],
            ["evaluate", "textures", ENCODER, name, *draw],
        ]
    for stage in [*stages, ["collect", "golden"]]:
        assert main(stage) == 0, stage
    return folder / "results"


def test_the_numbers_are_the_committed_ones(tmp_path, monkeypatch, capsys):
    from foundad.cli import main

    monkeypatch.chdir(tmp_path)
    results = run(tmp_path)
    capsys.readouterr()
    code = main(["compare", str(GOLDEN), str(results), "--tolerance", str(TOLERANCE)])
    assert code == 0, capsys.readouterr().out


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        found = run(Path(made)) / "metrics.parquet"
        shutil.copyfile(found, GOLDEN)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes", file=sys.stderr)
