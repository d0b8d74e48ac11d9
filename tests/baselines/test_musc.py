"""MuSc against arrays of the public implementation, in blocks of any size, with padding, and in the plan."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, write_yaml
from scipy.spatial.distance import cdist

from baselines.musc import detector as musc
from baselines.musc import scoring, settings
from foundad.cli import main
from foundad.config.encoder import Layer
from foundad.detection.bank import BankTokens
from foundad.detection.pictures import Pictures, Unread
from foundad.detection.shared.grids import repeated
from foundad.errors import UserError
from foundad.plan.selection import Plan

GOLDEN = ROOT / "tests/golden/musc.npz"
N, GRID, CHANNELS, LAYERS = 36, 6, 16, 3
EQUAL = (Layer(CHANNELS, GRID),) * LAYERS


def case(images: int) -> tuple[np.ndarray, np.ndarray]:
    """The tokens and class tokens of the golden arrays (benchmarks/musc.py), of 21 images there."""
    generator = np.random.default_rng(0)
    found = generator.normal(size=(1, N, LAYERS * CHANNELS)) + generator.normal(0, 0.7, (images, N, LAYERS * CHANNELS))
    found[::5, :2] += 2
    return found.astype(np.float32), generator.normal(1, 1, (images, 24)).astype(np.float32)


def scored(pictures: Pictures, layers: tuple[Layer, ...] = EQUAL, **keys) -> tuple[np.ndarray, np.ndarray]:
    values = {"id": "musc", "title": "MuSc", "neighbours": []}
    detector = musc.Detector(settings.Settings.model_validate(values | keys), 0)
    detector.fit(replace(BankTokens.empty(1, 1), layers=layers))
    return detector.score_pictures(pictures)


@pytest.mark.parametrize(("similarity", "neighbours"), [("cosine", [1, 2, 3]), ("product", [1, 8, 9])])
def test_scores_are_those_of_the_public_implementation(similarity, neighbours):
    tokens, described = case(21)
    keys = {"similarity": similarity, "neighbours": neighbours, "score_size": 84}
    patches, images = scored(Pictures(tokens, arrays={"class": described}), **keys)
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(patches, golden["patch"], rtol=0, atol=1e-5 * golden["patch"].max())
        np.testing.assert_allclose(images, golden[similarity], rtol=0, atol=1e-5)


def test_a_token_is_scored_by_the_nearest_images_alone():
    tokens, _ = case(9)
    patches, images = scored(Pictures(tokens), neighbourhoods=[1], share=0.3)
    vectors = [
        part - part.mean(axis=(1, 2), keepdims=True) for part in np.split(tokens.astype(np.float64), LAYERS, axis=2)
    ]
    for number in range(9):
        expected = np.zeros(N)
        for part in vectors:
            unit = part / np.linalg.norm(part, axis=2, keepdims=True)
            each = [cdist(unit[number], unit[other]).min(axis=1) for other in range(9) if other != number]
            expected += np.sort(each, axis=0)[:2].mean(axis=0) / LAYERS  # two of the eight others
        np.testing.assert_allclose(patches[number], expected, rtol=1e-4)
        assert images[number] == patches[number].max()


@pytest.mark.parametrize("rows", [1, 2, 21])
def test_blocks_and_memory_change_no_score(rows, monkeypatch):
    tokens, _ = case(21)
    whole, _ = scored(Pictures(tokens))
    monkeypatch.setattr(settings, "COSINES", rows * N * 21 * 4)  # a band of at least one block
    monkeypatch.setattr(musc, "TOKENS", rows * N * CHANNELS * 4)  # what does not fit is read again
    assert settings.band(21, N) == (21 if rows == 21 else settings.BLOCK)
    found, _ = scored(Pictures(tokens))
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("rows", [1, 21])
def test_the_plan_counts_the_pairs_that_are_compared(rows, monkeypatch):
    monkeypatch.setattr(settings, "COSINES", rows * N * 21 * 4)
    tokens, _ = case(21)
    compared = []
    vectors = scoring.aggregated(torch.from_numpy(tokens[:, :, :CHANNELS]), 1)
    scoring.mutual(lambda images: vectors[images], 21, 0.3, None, compared.append)
    assert sum(compared) == settings.compared(21, N)
    assert settings.compared(21, N) < 21**2 if rows == 21 else settings.compared(21, N) <= 21**2


def test_tokens_are_read_block_by_block():
    tokens, _ = case(21)
    asked: list[int] = []

    class Stored:
        def __getitem__(self, rows):
            asked.append(len(rows))
            return tokens[rows]

    unread = Unread(Stored(), np.arange(21), tokens.shape)
    found, _ = scored(Pictures(unread))
    assert max(asked) == settings.BLOCK
    assert sum(asked) == 21 * LAYERS  # once for a layer
    np.testing.assert_array_equal(found, scored(Pictures(tokens))[0])


def test_padding_is_neither_scored_nor_compared():
    tokens, described = case(7)
    inside = np.zeros((GRID, GRID), bool)
    inside[:4, :4] = True
    alone = tokens.reshape(7, GRID, GRID, -1)[:, :4, :4].reshape(7, 16, -1)
    expected, images = scored(Pictures(alone, arrays={"class": described}), (Layer(CHANNELS, 4),) * LAYERS)
    shown = np.tile(inside.ravel(), (7, 1))
    for foreign in (0, 50):
        padded = np.where(shown[:, :, None], tokens, np.float32(foreign))
        found, own = scored(Pictures(padded, shown, {"class": described}))
        np.testing.assert_allclose(found[shown].reshape(7, -1), expected, rtol=1e-4)
        np.testing.assert_allclose(own, images, rtol=1e-4)


def test_a_coarse_layer_is_compared_at_its_own_grid():
    tokens, _ = case(5)
    coarse = tokens[:, :9, :CHANNELS]
    found, _ = scored(Pictures(repeated(coarse, GRID)), (Layer(CHANNELS, 3),), neighbourhoods=[1])
    own, _ = scored(Pictures(coarse), (Layer(CHANNELS, 3),), neighbourhoods=[1])
    np.testing.assert_allclose(found[:, 0], own[:, 0], rtol=1e-6)  # the corners of both grids
    assert found.shape == (5, N)


def test_equal_scores_and_fewer_images_than_neighbours_are_finite():
    tokens = np.repeat(case(1)[0], 3, axis=0)
    described = np.zeros((3, 24), np.float32)
    patches, images = scored(Pictures(tokens, arrays={"class": described}), neighbours=[1, 8, 9])
    np.testing.assert_allclose(patches, 0, atol=2e-3)
    assert np.isfinite(images).all()


def test_one_image_alone_has_no_score():
    with pytest.raises(UserError, match="musc: scores the test images of a category by one another"):
        scored(Pictures(case(1)[0]))


# ---------------------------------------------------------------------------------------------------- in the plan


def plan_of(project: Path, **keys) -> Plan:
    """A run of MuSc alone, on a dataset of two categories with four normal and four defective test images each."""
    path = project / "config/datasets/tiny.yaml"
    counts = {"bolt": [5, 4, 4], "cloth": [5, 4, 4]}
    write_yaml(path, yaml.safe_load(path.read_text()) | {"counts": counts})
    write_yaml(project / "config/methods/musc.yaml", {"title": "MuSc", "detector": "musc", "scope": "category"} | keys)
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"] = [values["cells"][0] | {"methods": ["musc"], "shots": [0], "seeds": [0]}]
    table = {"caption": "All", "rows": ["shots", "method"], "columns": ["dataset"], "metrics": ["i_auroc"]}
    write_yaml(path, values | {"tables": {"main": table}, "figures": {}})
    return Plan({"experiments": ["small"], "results": str(project / "results")}, project / "config")


def test_the_cost_grows_with_the_square_of_the_images(project):
    plan = plan_of(project)
    fit = plan.job("fit", dataset="tiny", encoder="tiny", method="musc", shots=0, seed=0)
    assert sorted(Path(path).name for path in plan.inputs(fit)) == ["as-is.class.npy", "as-is.npy", "test.parquet"]
    # Two categories of eight images: a block with itself. 64 tokens of 40 channels, three neighbourhoods.
    assert plan.costs.operations(fit) == 2 * (2 * 8**2 * 64**2 * 40) * 3
    assert plan.costs.memory(fit) < 1600
    method, encoder = plan.project.method("musc"), plan.project.encoder("tiny")
    assert method.operations(0, 1600, 1, encoder) == pytest.approx(4 * method.operations(0, 800, 1, encoder), rel=0.02)
    huge = method.held(100_000, encoder)
    assert huge == pytest.approx(method.held(50_000, encoder), rel=0.5)
    assert huge < 4 << 30


def test_nothing_is_drawn_and_the_table_says_what_it_is_told(project, monkeypatch):
    monkeypatch.chdir(project)
    plan = plan_of(project)
    cell = ["tiny", "tiny", "musc", "--shots", "0", "--seed", "0"]
    stages = [["manifest", "tiny"], ["features", "tiny", "tiny"], ["features", "tiny", "tiny", "--array", "class"]]
    for stage in (
        *stages,
        ["masks", "tiny", "--side", "64"],
        ["fit", *cell],
        ["evaluate", *cell],
        ["collect", "small"],
        ["table", "small", "main"],
    ):
        assert main([*stage, *(["--device", "cpu"] if stage[0] in ("features", "fit") else [])]) == 0
    assert not plan.results.draw("tiny", 0, 0).exists()
    table = (project / "results/tables/small/main.md").read_text()
    assert "0-shot | MuSc (per category) (transductive) |" in table
    asked = ["predict", "--run", "results/cells/tiny/tiny/musc/k0-s0", "--category", "bolt", "--device", "cpu"]
    picture = next(Path(yaml.safe_load((project / "config/datasets/tiny.yaml").read_text())["root"]).rglob("*.png"))
    assert main([*asked, str(picture)]) == 1


def test_methods_that_learn_from_images_need_some(project, capsys):
    plan_of(project)
    path = project / "config/experiments/small.yaml"
    values = yaml.safe_load(path.read_text())
    values["cells"][0]["methods"] = ["musc", "random", "knn"]
    write_yaml(path, values)
    assert main(["validate", "--config", str(project / "config")]) == 2
    line = "key 'cells.0.shots': 0 is for methods that learn from no drawn image, and knn learns from them"
    assert line in capsys.readouterr().err
