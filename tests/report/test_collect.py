"""The stage ``collect``: every finished cell of the results folder whose keys are current, whatever the run selects."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import write_yaml
from invented import write_cell, write_failed, write_study

from foundad.cells import Cell
from foundad.cli import main
from foundad.data.manifest import read_manifest
from foundad.paths import Results
from foundad.plan.selection import Plan
from foundad.report.collect import Keys

METHODS = ("random", "knn", "foundad")


@pytest.fixture
def study(project: Path, monkeypatch) -> Plan:
    """Two experiments of one seed each; all their cells are there, with invented numbers and the right keys."""
    monkeypatch.chdir(project)
    grid = {"datasets": ["tiny"], "encoders": ["tiny"], "methods": list(METHODS), "shots": [1]}
    for seed, name in enumerate(("first", "second")):
        write_yaml(project / f"config/experiments/{name}.yaml", {"title": name, "cells": [grid | {"seeds": [seed]}]})
    found = plan("first", "second")
    write_study(found.results.root, found.cells, keys=lambda cell: Keys(*found.keys.of_files(cell)))
    return found


def plan(*experiments: str) -> Plan:
    return Plan({"experiments": list(experiments)}, Path("config"))


def collected(*experiments: str) -> bytes:
    assert main(["collect", *experiments]) == 0
    return Path("results/metrics.parquet").read_bytes()


def add(cell: Cell, keys: Keys, **changes) -> Results:
    """One more cell."""
    results = Results(Path("results"))
    write_cell(results, cell, read_manifest(results.manifest("tiny")), "0" * 16, keys, **changes)
    return results


def test_every_selection_gives_the_bytes_of_all(study):
    whole = collected("first", "second")
    runs = Path("results/runs.parquet").read_bytes()
    assert len(pd.read_parquet("results/runs.parquet")) == 6
    for selection in (["first"], ["second"], ["second", "first"]):
        assert collected(*selection) == whole
        assert Path("results/runs.parquet").read_bytes() == runs


def test_it_runs_again_when_other_cells_come_change_or_go(study):
    before = plan("first").beside
    assert plan("first").beside == before
    other, own = Cell("tiny", "tiny", "knn", 1, 1), Cell("tiny", "tiny", "knn", 1, 0)
    for cell, changes in ((own, False), (other, True)):
        folder = study.results.cell(cell)
        shutil.move(folder / "metrics.parquet", "kept")  # unfinished
        assert (plan("first").beside != before) == changes
        shutil.move("kept", folder / "metrics.parquet")
        assert plan("first").beside == before
    add(other, Keys("0" * 16, "0" * 16))
    assert plan("first").beside not in ("", before)
    assert Plan({"experiments": ["first"]}, Path("config"), stored=True).beside == ""


def test_stale_unknown_and_damaged_cells_are_named_and_left_out(study, capsys):
    whole = collected("first", "second")
    results, stale = study.results, Keys("0" * 16, "0" * 16)
    of = lambda method, seed: Cell("tiny", "tiny", method, 1, seed)  # noqa: E731
    current = {seed: Keys(*study.keys.of_files(of("knn", seed))) for seed in (2, 3, 4)}
    add(of("knn", 2), current[2])
    add(of("knn", 3), stale)
    add(of("knn", 4), Keys(current[4].fit, "0" * 16))
    for unknown in (of("knm", 0), Cell("tidy", "tiny", "knn", 1, 0), Cell("tiny", "tiny", "knn@bank.piars=8", 1, 0)):
        add(unknown, stale)
    shutil.copytree(results.cell(of("knn", 0)), results.cell(of("knn", 5)))  # of another cell
    add(of("knn", 6), Keys(*study.keys.of_files(of("knn", 6))))
    results.record(of("knn", 6)).write_text("{")
    add(of("knn", 7), current[2])
    results.cell_metrics(of("knn", 7)).unlink()  # unfinished
    for stray in ("notes", "k1-s01", "k1-s1.bak", ".k1-s9"):
        shutil.copytree(results.cell(of("knn", 0)), results.cells / "tiny/tiny/knn" / stray)
    capsys.readouterr()
    found = collected("first")
    out, err = capsys.readouterr()
    lines = dict(line.removeprefix("left out: ").split(": ", 1) for line in err.splitlines())
    said = {
        "tidy/tiny/knn/k1-s0": "config/datasets: there is no 'tidy'; did you mean 'tiny'?",
        "tiny/tiny/knm/k1-s0": "config/methods: there is no 'knm'; did you mean 'knn'?",
        "tiny/tiny/knn@bank.piars=8/k1-s0": "unknown key 'bank.piars'; did you mean 'pairs'?",
        "tiny/tiny/knn/k1-s3": "is of another config, other data or another version",
        "tiny/tiny/knn/k1-s4": "is of another config, other data or another version",
        "tiny/tiny/knn/k1-s5": "is of another config, other data or another version",
        "tiny/tiny/knn/k1-s6": "is damaged, or not a file of this project",
    }
    assert set(lines) == set(said)
    for cell, reason in said.items():
        assert reason in lines[cell], cell
    assert f"without {len(said)} cells" in out
    assert found != whole
    table = pd.read_parquet("results/metrics.parquet")
    assert sorted(table.loc[table["method"] == "knn", "seed"].unique()) == [0, 1, 2]
    shutil.rmtree(results.cell(of("knn", 2)))
    assert collected("second") == whole


def test_a_cell_of_the_run_that_is_stale_is_an_error(study, capsys):
    add(Cell("tiny", "tiny", "knn", 1, 0), Keys("0" * 16, "0" * 16))
    assert main(["collect", "first"]) == 1
    assert "knn/k1-s0/record.json: is of another config" in capsys.readouterr().err
    assert main(["collect", "second"]) == 0


def test_a_variant_that_no_experiment_names_any_more_is_gathered(study):
    cell = Cell("tiny", "tiny", "foundad@training.steps=3", 1, 0)
    add(cell, Keys(*study.keys.of_files(cell)))
    collected("first")
    assert cell.method in set(pd.read_parquet("results/runs.parquet")["method"])


def test_a_failed_cell_of_another_run_is_told_and_fails_no_status(study, capsys):
    cell = Cell("tiny", "tiny", "knn", 1, 1)
    write_failed(study.results, cell, "dataset tiny: is broken", Keys(*study.keys.of_files(cell)))
    collected("first")
    runs = pd.read_parquet("results/runs.parquet").set_index(["method", "seed"])
    assert runs.loc[("knn", 1), "reason"] == "dataset tiny: is broken"
    assert main(["status", "first"]) == 0
    assert Path("results/status.txt").read_text() == "3 cells done\n"
    assert main(["status", "second"]) == 1
    assert "1 of 3 cells failed" in capsys.readouterr().err


def test_tables_and_the_page_show_their_own_cells_alone(study):
    table = {"caption": "All", "rows": ["method"], "columns": ["dataset"], "metrics": ["i_auroc"]}
    path = Path("config/experiments/first.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"tables": {"main": table}}))
    shown = []
    for others in (True, False):
        if not others:
            for method in METHODS:
                shutil.rmtree(study.results.cell(Cell("tiny", "tiny", method, 1, 1)))
        collected("first")
        assert main(["table", "first", "main"]) == main(["report", "first"]) == 0
        shown.append(
            (Path("results/tables/first/main.csv").read_bytes(), Path("results/report/index.html").read_bytes())
        )
    assert shown[0] == shown[1]
