"""The founding observation and the efficiency of a cell, by hand on tiny data."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import TINY_ENCODER, write_yaml
from PIL import Image

from foundad.cells import Cell
from foundad.cli import main
from foundad.config.encoder import Encoder
from foundad.data.frame import patches_inside, picture_pixels, windows
from foundad.data.manifest import read_manifest
from foundad.detection.model import Model
from foundad.encoders import build_encoder
from foundad.encoders.base import FrozenEncoder
from foundad.method.observation import AREAS, growing_squares, observe, pasted_areas, sides
from foundad.paths import Results
from foundad.plan.catalogue import load_catalogue, load_one
from foundad.report.choice import measured_cells
from foundad.report.figures.base import write_figure
from foundad.report.figures.top_k import macro_auroc
from foundad.report.statistics import association
from foundad.report.tables.base import write_table

CELL = ["tiny", "tiny", "foundad", "--shots", "1", "--seed", "0"]


@pytest.fixture
def fitted(project, monkeypatch):
    """One fitted cell, and an experiment that observes it and says what it costs."""
    monkeypatch.chdir(project)
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    cell = {"datasets": ["tiny"], "encoders": ["tiny"], "methods": ["foundad"], "shots": [1], "seeds": [0]}
    observation = {"kind": "observation", "title": "O", "method": "foundad", "shots": 1}
    top_k = {"kind": "top-k", "title": "K", "values": [1, 10, 1000]}
    gallery = {"kind": "gallery", "title": "G", "dataset": "tiny", "encoder": "tiny", "method": "foundad", "shots": 1}
    figures = {"seen": observation | {"datasets": ["tiny"], "encoders": ["tiny"]}, "k": top_k, "gallery": gallery}
    tables = {"cost": {"kind": "efficiency", "caption": "C"}}
    write_yaml(path, values | {"cells": [cell], "figures": figures, "tables": tables})
    for stage in (
        ["manifest", "tiny"],
        ["draw", "tiny", "--shots", "1", "--seed", "0"],
        ["features", "tiny", "tiny", "--device", "cpu"],
        ["bank", *CELL, "--device", "cpu"],
        ["fit", *CELL, "--device", "cpu"],
        ["observe", *CELL, "--device", "cpu"],
        ["efficiency", *CELL, "--device", "cpu"],
    ):
        assert main(stage) == 0
    catalogue = load_catalogue(project / "config")
    return Results(project / "results"), catalogue, catalogue.experiments["small"]


def test_a_cell_is_observed_and_measured(fitted):
    results, catalogue, experiment = fitted
    cell = Cell("tiny", "tiny", "foundad", 1, 0)
    seen = pd.read_parquet(results.observation(cell))
    assert len(seen) == 2 * 4 * len(AREAS)  # two categories of four normal test images
    assert (seen.loc[seen["area"] == 0, "distance"] == 0).all()
    assert (seen.loc[seen["area"] > 0, "distance"] > 0).all()
    assert seen["area"].max() == pytest.approx(0.25)
    means = seen.groupby("area")["distance"].mean()
    assert means.iloc[-1] > means.iloc[2] > means.iloc[0]

    facts = json.loads(results.efficiency(cell).read_text())
    method = load_one(results.root.parent / "config", "methods", "foundad")
    assert facts["training_passes"] == 2 + 2 * method.bank.pairs
    assert facts["parameters"] > facts["trainable_parameters"] > 0
    # At least the projector's two linear ends, a multiplication and an addition two, for 64 tokens.
    assert facts["operations"] > 2 * 64 * 2 * 40 * 32
    for batch in ("1", "8"):
        times = facts["milliseconds"][batch]
        assert 0 < times["quartile1"] <= times["median"] <= times["quartile3"]

    for name in experiment.figures:
        write_figure(results, catalogue, experiment, name)
        for suffix in ("png", "pdf", "csv"):
            assert results.figure("small", name, suffix).stat().st_size > 100
    drawn = pd.read_csv(results.figure("small", "seen", "csv"))
    assert set(drawn["measure"]) == {"distance", "residual"}
    assert ((drawn["spearman_low"] <= drawn["spearman"]) & (drawn["spearman"] <= drawn["spearman_high"])).all()
    swept = pd.read_csv(results.figure("small", "k", "csv"))
    assert swept["top_k"].tolist() == [1, 10]  # there are 64 patches, not 1000
    shown = pd.read_csv(results.figure("small", "gallery", "csv"))
    assert set(shown["shown_as"]) == {"best", "median", "worst", "random", "highest normal"}
    write_table(results, catalogue, experiment, "cost")
    text = results.table("small", "cost", "md").read_text()
    assert f"{facts['trainable_parameters'] / 1e6:.2f}" in text
    assert "Measured on: " in text


@pytest.mark.parametrize(("height", "width"), [(64, 64), (20, 64)])
def test_squares_grow_around_one_place(height, width):
    image = torch.rand(3, height, width)
    encoder = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
    damaged = list(growing_squares(image, encoder, np.random.default_rng(1)))
    changed = [(picture != image).any(dim=0) for picture in damaged]
    assert not changed[0].any()
    areas = [high * wide for high, wide in sides(height, width)]
    assert pasted_areas(height, width) == [area / (height * width) for area in areas]
    for inner, outer, area in zip(changed[1:], changed[2:], areas[1:], strict=False):
        assert area * 0.9 <= int(inner.sum()) <= area
        assert int((inner & ~outer).sum()) <= 0.1 * int(inner.sum())


def test_squares_keep_to_the_picture_where_it_is_padded(fitted, tmp_path):
    results, catalogue, _ = fitted
    seen: list[np.ndarray] = []

    class Watched(FrozenEncoder):
        def named(self, images, names):
            seen.append(images.numpy())
            return super().named(images, names)

    manifest = read_manifest(results.manifest("tiny"))
    wide = replace(next(row for row in manifest.test if not row.label), image_path="wide.png", width=60, height=20)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 60, 3), np.uint8)).save(tmp_path / "wide.png")
    padded = catalogue.encoders["tiny"].model_copy(update={"size_mode": "pad"})
    rows, columns = picture_pixels(padded, 60, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "foundad.method.observation.build_encoder", lambda *_: Watched(padded, build_encoder(padded).network)
        )
        observe(
            replace(manifest, rows=[wide]).at(tmp_path),
            padded,
            Model.load(results.cell(Cell("tiny", "tiny", "foundad", 1, 0)) / "model.safetensors"),
            tmp_path / "seen.parquet",
        )
    pictures = np.concatenate(seen)
    outside = np.ones(pictures.shape[2:], bool)
    outside[rows, columns] = False
    assert outside.any()
    assert (pictures[:, :, outside] == pictures[0][:, outside]).all()
    assert (pictures[-1] != pictures[0]).any()
    # Distances, too, are those of the patches that show the picture.
    tokens = build_encoder(padded).in_memory(torch.from_numpy(pictures))["patch"].half().numpy().astype(np.float64)
    inside = patches_inside(windows(padded, [(60, 20)]), padded.grid)[0]
    kept = tokens[:, inside]
    observed = pd.read_parquet(tmp_path / "seen.parquet")
    expected = np.sqrt(((kept - kept[:1]) ** 2).mean(axis=(1, 2)))
    np.testing.assert_allclose(observed["distance"], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(observed["magnitude"], np.sqrt((kept[0] ** 2).mean()), rtol=1e-3)


def test_the_cost_of_a_cell_is_measured_of_its_first_seed():
    cells = [Cell("d", "e", method, shots, seed) for method in ("b", "a") for shots in (1, 4) for seed in (3, 0, 1)]
    measured = measured_cells(cells, {"shots": [4]})
    assert measured == [Cell("d", "e", "b", 4, 3), Cell("d", "e", "a", 4, 3)]


def test_association_of_a_line_and_of_noise():
    generator = np.random.default_rng(0)
    x = np.tile(np.linspace(0, 1, 11), 30)
    groups = np.repeat([f"i{n}" for n in range(30)], 11)
    (rho, interval), (fit, _) = association(x.tolist(), (3 * x + 1).tolist(), groups.tolist())
    assert (rho, fit) == pytest.approx((1.0, 1.0))
    assert (interval.low, interval.high) == pytest.approx((1.0, 1.0))
    (rho, interval), (fit, _) = association(x.tolist(), generator.normal(size=len(x)).tolist(), groups.tolist())
    assert interval.low < 0 < interval.high
    assert abs(rho) < 0.2
    assert fit < 0.05


def test_the_mean_over_categories_leaves_out_what_is_undefined():
    scores, labels = np.array([1.0, 2.0, 3.0, 4.0, 9.0]), np.array([0, 1, 1, 0, 1])
    categories = np.array(["a", "a", "b", "b", "c"])
    assert macro_auroc(scores, labels, categories) == pytest.approx((1.0 + 0.0) / 2)
