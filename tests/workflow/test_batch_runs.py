"""Runs on this machine that delete large files after use: batches of cells, each with its own Snakemake."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import yaml
from conftest import write_yaml
from laboratory import EXPERIMENT, METHODS, Call, change_yaml, copy_workflow, finish, write_config, write_data

KEEP = {"features": "while-needed", "banks": "while-needed", "models": "while-needed"}
CELLS = {"datasets": ["bolts"], "encoders": ["tiny"], "methods": ["knn", "foundad"], "shots": [1], "seeds": [0, 1]}


def study(folder: Path, **run: object) -> Path:
    """One dataset and encoder, two methods, and what is measured of one cell."""
    folder.mkdir()
    write_data(folder)
    write_config(folder, ["bolts"], ["tiny"], METHODS)
    names = {"tables": ["main"], "figures": ["gallery", "seen"]}
    shown = {group: {name: EXPERIMENT[group][name] for name in found} for group, found in names.items()}
    write_yaml(folder / "config/experiments/small.yaml", {"title": "Small", "cells": [CELLS]} | shown)
    write_yaml(folder / "config/config.yaml", {"experiments": ["small"], "device": "cpu"} | run)
    copy_workflow(folder)
    return folder


def made(project: Path) -> dict[str, int]:
    """Cell -> when its scores were written."""
    cells = project / "results/cells"
    return {str(path.parent.relative_to(cells)): path.stat().st_mtime_ns for path in cells.rglob("scores.safetensors")}


def left(project: Path) -> list[str]:
    """Large files that are there."""
    results = project / "results"
    patterns = ("*.npy", "banks/**/*.safetensors", "cells/**/model.safetensors")
    return [str(path.relative_to(results)) for pattern in patterns for path in results.rglob(pattern)]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """metrics.parquet of a run that keeps all files, one cell per job."""
    project = study(tmp_path_factory.mktemp("everything") / "project")
    finish(project)
    assert len(left(project)) == 1 + 2 + 4  # features, a bank per draw, a model per cell
    return (project / "results/metrics.parquet").read_bytes()


def test_files_that_go_after_use_change_no_number(everything, tmp_path):
    project = study(tmp_path / "project", keep=KEEP)
    finish(project)
    assert (project / "results/metrics.parquet").read_bytes() == everything
    assert left(project) == []
    again = finish(project)
    assert "Nothing to be done" in again.stdout + again.stderr

    # A method more: its cells alone run, although what they read is encoded again.
    before = made(project)
    change_yaml(project / "config/experiments/small.yaml", {"cells.0.methods": ["knn", "foundad", "random", "views"]})
    finish(project)
    after = made(project)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[2] for name in after.keys() - before.keys()} == {"random", "views"}

    # A method changed: its cells alone.
    change_yaml(project / "config/methods/views.yaml", {"smoothing": 2.0})
    path = project / "config/config.yaml"
    write_yaml(path, yaml.safe_load(path.read_text()) | {"keep": KEEP | {"models": "all"}})
    finish(project)
    changed = {name.split("/")[2] for name, at in made(project).items() if at != after[name]}
    assert "views" in changed
    assert "bolts/tiny/views/k1-s0" in {
        path.removeprefix("cells/").removesuffix("/model.safetensors") for path in left(project)
    }


def test_a_batch_that_is_killed_does_the_missing_cells_alone(everything, tmp_path):
    project = study(tmp_path / "project", keep=KEEP, warm=False)
    running = Call(project)
    try:
        deadline = time.monotonic() + 200
        while not list(project.glob("results/cells/*/*/*/*/metrics.parquet")):
            assert time.monotonic() < deadline
            assert running.process.poll() is None
            time.sleep(0.02)
        os.killpg(running.process.pid, signal.SIGKILL)
        running.wait()
    finally:
        running.end()
    done = {
        name: at
        for name, at in made(project).items()
        if (project / "results/cells" / name / "metrics.parquet").exists()
    }
    assert done
    finish(project, "--unlock")
    finish(project, "--rerun-incomplete")
    after = made(project)
    assert {name: after[name] for name in done} == done
    assert (project / "results/metrics.parquet").read_bytes() == everything
    assert left(project) == []


def test_a_deleted_model_is_made_again_with_all_that_it_reads(tmp_path):
    """The command that `foundad predict` suggests; the scores stay, and the features and banks go again."""
    project = study(tmp_path / "project", keep=KEEP)
    change_yaml(
        project / "config/experiments/small.yaml", {"cells.0.methods": ["knn"], "cells.0.seeds": [0], "figures": {}}
    )
    finish(project)
    assert left(project) == []
    cell = project / "results/cells/bolts/tiny/knn/k1-s0"
    scores = (cell / "scores.safetensors").read_bytes()
    finish(project, "results/cells/bolts/tiny/knn/k1-s0/model.safetensors")
    assert left(project) == ["cells/bolts/tiny/knn/k1-s0/model.safetensors"]
    assert (cell / "scores.safetensors").read_bytes() == scores

    # A file of a cell that is gone is made again by the plain call, even if every table is there.
    (cell / "scores.safetensors").unlink()
    finish(project)
    assert (cell / "scores.safetensors").read_bytes() == scores


def test_a_cell_that_is_deleted_by_hand_is_made_again_when_it_is_read(tmp_path):
    project = study(tmp_path / "project", keep=KEEP)
    change_yaml(project / "config/experiments/small.yaml", {"cells.0.methods": ["oracle"], "figures": {}})
    finish(project)
    before = made(project)
    for name in ("cells/bolts/tiny/oracle/k1-s1/metrics.parquet", "metrics.parquet"):
        (project / "results" / name).unlink()
    finish(project)
    assert (project / "results/cells/bolts/tiny/oracle/k1-s1/metrics.parquet").exists()
    assert made(project)["bolts/tiny/oracle/k1-s0"] == before["bolts/tiny/oracle/k1-s0"]
    assert json.loads((project / "results/batches/run.json").read_text())["keep"] == KEEP
