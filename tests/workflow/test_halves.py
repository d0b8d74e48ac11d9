"""A study in two halves, one after the other or in two folders, gives the same bytes as a study in one run."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import write_yaml
from laboratory import (
    TABLE,
    call,
    change_yaml,
    copy_workflow,
    finish,
    leftovers,
    numbers,
    planned,
    write_config,
    write_data,
)

from foundad.cli import main

METHODS = ["knn", "oracle"]
LAST = {"collect": 1, "status": 1, "table": 2, "report": 1}

pytestmark = pytest.mark.slow


def study(folder: Path, *experiments: str) -> Path:
    """Two experiments, each of one seed; those that are named run."""
    folder.mkdir()
    write_data(folder)
    write_config(folder, ["bolts"], ["tiny"], METHODS)
    for seed, name in enumerate(("first", "second")):
        grid = {"datasets": ["bolts"], "encoders": ["tiny"], "methods": METHODS, "shots": [1], "seeds": [seed]}
        values = {"title": name, "cells": [grid], "tables": {"main": TABLE}}
        write_yaml(folder / f"config/experiments/{name}.yaml", values)
    write_yaml(folder / "config/config.yaml", {"experiments": list(experiments), "device": "cpu"})
    copy_workflow(folder)
    return folder


def select(project: Path, *experiments: str) -> None:
    change_yaml(project / "config/config.yaml", {"experiments": list(experiments)})


def bring(cells: Path, project: Path) -> None:
    """Copy cells to another results folder as docs/clusters.md says."""
    one_time = 'find "$0" -type f -exec touch -d "$(date -Ins)" {} + && cp -a "$0/." "$1"'
    subprocess.run(["bash", "-c", one_time, cells, project / "results/cells"], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """metrics.parquet of both experiments in one go."""
    project = study(tmp_path_factory.mktemp("whole") / "project", "first", "second")
    finish(project)
    return numbers(project)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders that have run one experiment each."""
    folder = tmp_path_factory.mktemp("halves")
    found = study(folder / "first", "first"), study(folder / "second", "second")
    for project in found:
        finish(project)
    return found


def test_another_selection_takes_nothing_away(whole, halves, tmp_path):
    project = shutil.copytree(halves[0], tmp_path / "project")
    first = numbers(project)
    select(project, "second")
    finish(project)
    assert numbers(project) == whole
    assert (project / "results/status.txt").read_text() == "2 cells done\n"
    assert planned(project) == {}
    select(project, "first")
    assert planned(project) == LAST | {"table": 1}
    finish(project)
    assert numbers(project) == whole
    assert planned(project) == {}
    # Cells that go, come unfinished or come back make it collect again, and nothing but what shows the cells.
    (project / "results/cells/bolts/tiny/knn/k1-s1/metrics.parquet").rename(tmp_path / "kept")
    assert planned(project) == LAST | {"table": 1}
    shutil.rmtree(project / "results/cells/bolts/tiny/oracle/k1-s1")
    finish(project)
    assert numbers(project) == first


def test_both_experiments_after_each_alone(whole, halves, tmp_path):
    project = shutil.copytree(halves[0], tmp_path / "project")
    select(project, "second")
    finish(project)
    select(project, "first", "second")
    assert planned(project) == LAST
    finish(project)
    assert numbers(project) == whole


def test_stale_foreign_and_damaged_cells_are_named_and_left_out(halves, tmp_path):
    project = shutil.copytree(halves[0], tmp_path / "project")
    first, log = numbers(project), project / "results/logs/collect.log"
    cells = project / "results/cells/bolts/tiny"
    shutil.copytree(halves[1] / "results/cells/bolts/tiny", cells, dirs_exist_ok=True)
    shutil.copytree(cells / "knn/k1-s1", cells / "gone/k1-s1")
    shutil.copytree(cells / "knn/k1-s1", cells / "knn/k1-s7")
    shutil.copytree(cells / "knn/k1-s1", cells / "knn/notes")
    (cells / "oracle/k1-s1/record.json").write_text("{")
    change_yaml(project / "config/methods/knn.yaml", {"bank.pairs": 9})
    finish(project)
    assert numbers(project) == first  # knn learns nothing from pairs
    left_out = [line.split(":")[1].strip() for line in log.read_text().splitlines() if line.startswith("left out: ")]
    assert left_out == [f"bolts/tiny/{name}" for name in ("gone/k1-s1", "knn/k1-s1", "knn/k1-s7", "oracle/k1-s1")]
    assert "there is no 'gone'" in log.read_text()
    assert planned(project) == {}


def test_merged_folders_are_done(whole, halves, tmp_path):
    project = study(tmp_path / "project", "first", "second")
    sources = [str(half / "results") for half in halves]
    assert main(["merge", *sources, "--into", str(project / "results")]) == 0
    assert numbers(project) == whole
    assert planned(project) == LAST
    finish(project)
    assert numbers(project) == whole
    assert planned(project) == {}
    assert main(["merge", *sources, "--into", str(project / "results")]) == 0
    assert planned(project) == {}
    assert leftovers(project) == []


@pytest.mark.parametrize("target", [0, 1])
def test_cells_of_two_folders(whole, halves, target, tmp_path):
    project, other = (
        shutil.copytree(halves[target], tmp_path / "a"),
        shutil.copytree(halves[1 - target], tmp_path / "b"),
    )
    bring(other / "results/cells", project)
    select(project, "first", "second")
    assert planned(project) == LAST
    finish(project)
    assert numbers(project) == whole
    assert planned(project) == {}


def test_cells_older_than_the_manifests_are_made_again(whole, halves, tmp_path):
    project = shutil.copytree(halves[1], tmp_path / "project")
    shutil.copytree(halves[0] / "results/cells", project / "results/cells", dirs_exist_ok=True)
    select(project, "first", "second")
    assert planned(project)["fit"] == 2
    finish(project)
    assert numbers(project) == whole


def test_cells_of_another_config_are_refused(whole, halves, tmp_path):
    project, other = shutil.copytree(halves[1], tmp_path / "a"), shutil.copytree(halves[0], tmp_path / "b")
    change_yaml(other / "config/methods/knn.yaml", {"bank.pairs": 9})
    finish(other)
    bring(other / "results/cells", project)
    select(project, "first", "second")
    result = call(project)
    assert result.returncode
    assert re.search(r"knn/k1-s0/\S+: is of another config, other data or another version", result.stderr), (
        result.stderr
    )
    finish(project, "--forcerun", "fit")
    assert numbers(project) == whole
