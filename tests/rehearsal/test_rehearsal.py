"""The rehearsal: writers of official layouts, tiny twins, what is kept of experiments, and a small run to its page."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, write_yaml

from foundad import provenance
from foundad.cli import main
from foundad.config.dataset import Dataset
from foundad.config.encoder import Blocks, Encoder
from foundad.config.experiment import Experiment
from foundad.data import get as getting
from foundad.data.verify import build_manifest
from foundad.discovery import layouts, libraries
from foundad.encoders import build_encoder
from foundad.errors import UserError
from foundad.plan.catalogue import load_catalogue, load_one
from foundad.rehearsal import datasets, encoders
from foundad.rehearsal.project import Rehearsal, experiment_values, make, renamed
from foundad.rehearsal.running import Measured, kind_of
from foundad.rehearsal.summary import plan_of, summary
from foundad.stages.registry import STAGES

PAPER = load_catalogue(ROOT / "config", "paper")
AMOUNT = datasets.Amount(draws=5)


# ---------------------------------------------------------------------------------------------------- datasets


@pytest.mark.parametrize("name", sorted(set(PAPER.datasets)))
def test_a_small_dataset_in_its_official_archive_is_unpacked_and_verified(name, tmp_path):
    settings = PAPER.datasets[name]
    made, archive = tmp_path / "made", tmp_path / datasets.archive_name(settings)
    made.mkdir()
    categories = datasets.write_dataset(settings, made, AMOUNT)
    datasets.pack(made, archive)
    settings = settings.model_copy(update={"root": str(tmp_path / "data"), "generator": None, "counts": {}})
    root = getting.get(settings, False, [archive])
    manifest = build_manifest(settings)
    assert root == tmp_path / "data"
    counted: dict[str, list[int]] = {}
    for row in manifest.rows:
        counted.setdefault(row.category, [0, 0, 0])[0 if row.split == "train" else 1 + row.label] += 1
    assert sorted(counted) == sorted(categories)
    for draws, normal, defective in counted.values():
        assert draws >= AMOUNT.draws
        assert normal >= AMOUNT.normal
        assert defective >= min(AMOUNT.defective, 4)
    masked = [row.mask_path for row in manifest.rows if row.label]
    assert all(masked) or name == "elpv"


def test_every_layout_has_a_writer():
    assert set(datasets.WRITERS) == set(layouts())


@pytest.mark.parametrize("layout", ["folder", "table"])
def test_own_layouts_are_written_as_well(layout, tmp_path):
    values = {
        "id": "mine",
        "title": "Mine",
        "layout": layout,
        "root": str(tmp_path),
        "licence": "CC0",
        "source": "here",
    }
    settings = Dataset.model_validate(values)
    datasets.write_dataset(settings, tmp_path, AMOUNT)
    assert len(build_manifest(settings).rows) == AMOUNT.draws + AMOUNT.normal + AMOUNT.defective


# ---------------------------------------------------------------------------------------------------- encoders


@pytest.mark.parametrize("name", sorted(name for name in PAPER.encoders if "@" not in name))
def test_a_twin_is_the_same_encoder_but_small(name, tmp_path):
    whole = PAPER.encoders[name]
    for encoder in (whole, *whole.parts):
        write_yaml(tmp_path / f"encoders/{encoder.id}.yaml", encoders.twin(encoder))
    small: Encoder = load_one(tmp_path, "encoders", name)
    assert small.library == whole.library
    assert small.model == whole.model
    assert (small.mean, small.std, small.tokens) == (whole.mean, whole.std, whole.tokens)
    assert len(small.layers) == len(whole.layers)
    if isinstance(small.features, Blocks):
        assert small.features == whole.features
        assert 3 <= small.grid <= 9
    network = build_encoder(small)
    tokens = network(torch.randn(2, 3, small.image_size, small.image_size))
    assert tokens.shape == (2, small.grid**2, small.channels)
    assert torch.isfinite(tokens).all()
    assert sum(parameter.numel() for parameter in network.parameters()) < 7e6


# ---------------------------------------------------------------------------------------------------- experiments


def test_experiments_keep_all_that_they_show():
    for experiment in PAPER.experiments.values():
        values = experiment_values(experiment, seeds=2)
        small = Experiment.model_validate(values | {"id": experiment.id})
        assert list(small.tables) == list(experiment.tables)
        assert list(small.figures) == list(experiment.figures)
        for axis in ("dataset", "encoder", "method"):
            named = {getattr(cell, axis) for cell in PAPER.cells(experiment)}
            assert {getattr(cell, axis) for cell in PAPER.cells(small)} == named
        for spec in (*small.tables.values(), *small.figures.values()):
            assert list(spec.problems(PAPER.cells(small), PAPER)) == []


def test_names_change_wherever_they_stand():
    values = {"encoders": ["a@x=1", "a@x=2", "b"], "where": {"encoder": ["a@x=2"]}, "shots": [1]}
    assert renamed(values, {"a@x=1": "a@x=3", "a@x=2": "a@x=3"}) == {
        "encoders": ["a@x=3", "b"],
        "where": {"encoder": ["a@x=3"]},
        "shots": [1],
    }


def test_a_sweep_stays_a_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr("foundad.rehearsal.project._bring_dataset", lambda *_: None)
    values = {"experiments": ["steps", "resolution", "pairs"], "size": "paper"}
    rehearsal = make(values, ROOT / "config", "here", tmp_path / "out")
    small = yaml.safe_load((tmp_path / "out/config/experiments/steps.yaml").read_text())
    assert small["cells"][0]["methods"] == [
        "foundad@training.steps=2",
        "foundad@training.steps=4",
        "foundad",
        "foundad@training.steps=16",
        "foundad@training.steps=32",
    ]
    sizes = yaml.safe_load((tmp_path / "out/config/experiments/resolution.yaml").read_text())["cells"][0]["encoders"]
    assert sizes == [
        "dinov3-vitb16@image_size=48",
        "dinov3-vitb16@image_size=64",
        "dinov3-vitb16",
        "dinov3-vitb16@image_size=128",
    ]
    assert rehearsal.values["size"] == "paper"
    assert rehearsal.values["device"] == "cpu"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something other than a rehearsal; give --out"):
        make({"experiments": ["steps"], "size": "paper"}, ROOT / "config", "here", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_no_key_of_a_stage_reaches_the_rehearsal():
    modules = tuple(type_.__module__ for type_ in STAGES.values())
    reached = provenance._reachable((*modules, *libraries().values(), *layouts().values()), frozenset())
    assert not [name for name in reached if name.startswith("foundad.rehearsal")]


# ---------------------------------------------------------------------------------------------------- a small run


def small_project(folder: Path) -> Path:
    """A project at paper size: two datasets of two categories, and one encoder of each library."""
    for name in ("Snakefile", "workflow", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "results").mkdir()
    (folder / "results/reference").symlink_to(ROOT / "results/reference")
    for kind, names in (("datasets", ("mvtec-ad", "visa")), ("methods", ("foundad", "knn"))):
        for name in names:
            values = yaml.safe_load((ROOT / f"config/{kind}/{name}.yaml").read_text())
            if kind == "datasets":
                values |= {"categories": values["categories"][:2], "counts": {}}
            write_yaml(folder / f"config/{kind}/{name}.yaml", values)
    parts = ("dinov2-reg-vitl14-378", "siglip-so400m-378")
    for name in ("clip-b16", "open-clip-laion-b16", "dinosiglip", "wideresnet50", *parts):
        values = yaml.safe_load((ROOT / f"config/encoders/{name}.yaml").read_text())
        write_yaml(folder / f"config/encoders/{name}.yaml", values)
    first = {"datasets": ["mvtec-ad"], "encoders": ["clip-b16", "open-clip-laion-b16"], "methods": ["knn"]}
    second = {"datasets": ["visa"], "encoders": ["dinosiglip", "wideresnet50"], "methods": ["knn"]}
    drawn = {"shots": [1, 4], "seeds": [0, 1, 2]}
    table = {"caption": "All", "rows": ["dataset", "encoder"], "metrics": ["i_auroc", "strict/p_auroc"]}
    figure = {"kind": "dots", "title": "All", "x": "encoder", "metrics": ["i_auroc"]}
    values = {"title": "Small", "cells": [first | drawn, second | drawn], "tables": {"main": table}}
    where = {"where": {"shots": [1]}}
    values |= {"tables": {"main": table | where}, "figures": {"main": figure | where}}
    write_yaml(folder / "config/experiments/small.yaml", values)
    # One Snakemake: batches have a test of their own, and each starts one.
    keep = {"features": "all", "banks": "all", "models": "all"}
    run = {"experiments": ["small"], "size": "paper", "device": "cuda", "keep": keep}
    write_yaml(folder / "config/config.yaml", run)
    return folder


def test_a_small_run_is_rehearsed_to_its_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(small_project(tmp_path))
    assert main(["rehearse", "--out", "out", "--cores", "2", "--seeds", "1"]) == 0, (
        capsys.readouterr().out + Path("out/rehearsal.log").read_text()
    )
    shown = capsys.readouterr().out
    assert "out: 4 cells of 1 experiments, 2 cores" in shown
    assert "nothing is missing, no cell failed" in shown
    assert "dashes      0 of 8 entries of tables" in shown
    assert Path("out/results/paper/report/index.html").is_file()
    assert json.loads(Path("out/data/visa/foundad-source.json").read_text())["archives"][0]["archive"].startswith(
        "VisA"
    )


def test_a_missing_table_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(small_project(tmp_path))
    values = {"experiments": ["small"], "size": "paper", "device": "cpu", "results": "results"}
    rehearsal = Rehearsal(tmp_path, values, "here")
    found = summary(rehearsal, plan_of(rehearsal), Measured(code=1), 2)
    assert not found.whole
    assert "small" in found.text
    assert "missing     " in found.text
    assert "failed      mvtec-ad/clip-b16/knn/k1-s0: there is no runs.parquet" in found.text
    assert "small     24  0 of 1   0 of 1" in found.text


def test_large_files_are_told_apart():
    assert kind_of("banks", "k1-s0-36c84de3.safetensors") == "banks"
    assert kind_of("cells", "model.safetensors") == "models"
    assert kind_of("cells", ".model.x1y2.foundad-tmp.safetensors") == "models"
    assert kind_of("cells", "scores.safetensors") == "scores"
    assert kind_of("cells", "record.json") == ""
