"""Padding is no data: whatever an encoder says of it changes no model, no threshold and no score of the picture."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY_ENCODER, save
from PIL import Image
from test_baselines import bank as plain_bank
from test_methods import (
    CHANNELS,
    GRID,
    METHODS,
    bank,
    class_tokens,
    encoder,
    method,
    names,
    tokens,
    turned_back_tokens,
    viewed,
)

from baselines import anoco, anomalydino, fastrecon, knn, padim, patchcore, rad, spade, subspacead, visionad
from foundad.config.bank import Bank
from foundad.config.encoder import Encoder, Layer
from foundad.data.draws import Draw
from foundad.data.patches import seen_inside
from foundad.data.views import support_views
from foundad.detection.bank import BankTokens, FreshPairs, Preparation
from foundad.detection.fitting import fresh_bank
from foundad.detection.model import Model
from foundad.detection.pictures import Pictures
from foundad.detection.shared.grids import coarser, nearest_places, repeated
from foundad.device import Compute
from foundad.method.projector import Projector
from foundad.method.settings import Projector as ProjectorSettings
from foundad.method.settings import Settings
from foundad.pairs.encoder import PairEncoder, build_bank, drawn_images
from foundad.paths import Array

N = GRID * GRID


def wide_and_tall(count: int) -> np.ndarray:
    """Every third picture is tall, the others are wide and lie one patch off the middle, [count,N] bool."""
    inside = np.zeros((count, GRID, GRID), bool)
    inside[:, 1:] = True
    inside[::3] = False
    inside[::3, :, 1:3] = True
    return inside.reshape(count, N)


def with_padding(values: np.ndarray, inside: np.ndarray, seed: int) -> np.ndarray:
    """``values`` with foreign tokens where the padding is."""
    foreign = np.random.default_rng(seed).normal(9 * seed, 5, values.shape).astype(values.dtype)
    return np.where(inside[:, :, None], values, foreign)


def padded_bank(seed: int, fresh: bool = False) -> BankTokens:
    """The pictures of ``bank`` with padding that ``seed`` fills, with encoded pairs or a source of fresh ones."""
    plain = bank(images=12, categories=2)
    inside = wide_and_tall(len(plain.normal))
    normal, synthetic = (with_padding(array, inside, seed) for array in (plain.normal, plain.synthetic))

    def make(sources, numbers, damaged):
        clean = normal[list(sources)]
        inputs = np.where(np.array(damaged)[:, None, None], synthetic[list(sources)], clean)
        return clean, inputs, inside[list(sources)]

    seen = {view: (turned_back_tokens(normal, view),) * 2 for view in plain.viewed}
    return replace(
        plain,
        normal=normal,
        clean=normal,
        synthetic=synthetic,
        inside=inside,
        inside_normal=inside,
        fresh=FreshPairs(make, list(range(len(normal)))) if fresh else None,
        viewed=seen,
    )


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scope", ["pooled", "category"])
def test_nothing_depends_on_what_the_padding_holds(name, scope):
    inside = wide_and_tall(5)
    states, thresholds, records, found = [], [], [], []
    for seed in (1, 2):
        model = Model(method(name).model_copy(update={"scope": scope}), encoder("standardised"), 0, top_k=3)
        records.append(model.fit(padded_bank(seed, "images" in model.method.needs)))
        images = with_padding(tokens(5, 7), inside, seed)
        seen = viewed(model, images, tokens(5, 7))
        patches, scores = model.score(seen, "c1", inside, names(images))
        assert np.isfinite(patches[inside]).all()
        found.append((patches[inside], scores))
        thresholds.append(model.thresholds)
        states.append(dict(model._arrays()))
    assert records[0] == records[1]
    assert thresholds[0] == thresholds[1]
    for key, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][key], err_msg=key)
    for first, second in zip(*found, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_padded_model_is_the_same_when_it_is_loaded(name, tmp_path):
    model = Model(method(name), encoder(), 0, top_k=3)
    model.fit(padded_bank(1, "images" in model.method.needs))
    model.save(tmp_path / "model.safetensors")
    inside = wide_and_tall(4)
    images = with_padding(tokens(4, 7), inside, 1)
    before, after = (
        each.score(viewed(model, images), "c0", inside) for each in (model, Model.load(tmp_path / "model.safetensors"))
    )
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])


# ---------------------------------------------------------------------------------------------------- a picture in a corner

SIDE, PICTURE = 6, 4  # patches of the grid, and of the square picture in its corner
LAYERS = (Layer(4, SIDE), Layer(6, SIDE // 2))
RIVALS = {
    "knn": (knn, {}),
    "anoco": (anoco, {"neighbours": 6}),
    "subspace": (subspacead, {}),
    "dino": (anomalydino, {}),
    "dino masked": (anomalydino, {"mask": True, "mask_threshold": 0.5}),
    "padim": (padim, {}),
    "rad": (rad, {}),
    "rad near": (rad, {"radius": 1}),
    "spade": (spade, {"neighbours": 2}),
    "spade all": (spade, {"retrieval": "all"}),
    "visionad": (visionad, {}),
    "patchcore": (patchcore, {"reweight": 3}),
    "patchcore as published": (patchcore, {"dimensions": 7, "coreset": 0.5, "projection": 8}),
    "fastrecon": (fastrecon, {"neighbourhood": 3, "least": 6}),
}


def layered(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of pictures of 4 x 4 patches, of two layers, alone and in the corner of a grid of 6 x 6."""
    generator = np.random.default_rng(seed)
    grids = generator.normal(1, 1, (count, SIDE, SIDE, 10)).astype(np.float32)
    grids[..., 4:] = grids[:, ::2, ::2, 4:].repeat(2, axis=1).repeat(2, axis=2)
    alone = grids[:, :PICTURE, :PICTURE].reshape(count, -1, 10)
    return np.ascontiguousarray(alone), grids.reshape(count, -1, 10)


@pytest.mark.parametrize("name", RIVALS)
def test_a_padded_picture_scores_as_the_picture_alone(name):
    """Neighbourhoods, pooled features, masks and layers end with the picture as they end with the grid."""
    module, keys = RIVALS[name]
    settings = module.Settings.model_validate(
        {"id": "rival", "title": "Rival", "detector": module.__name__.split(".")[1]} | keys
    )
    inside = np.zeros((SIDE, SIDE), bool)
    inside[:PICTURE, :PICTURE] = True
    alone, whole = layered(4, 0)
    queries, padded = layered(3, 1)
    smaller = tuple(Layer(layer.channels, layer.grid * PICTURE // SIDE) for layer in LAYERS)
    detectors = [module.Detector(settings, 3) for _ in range(2)]
    arrays = {"": {"class": (class_tokens(alone), np.empty((0, 1)))}}
    small = detectors[0].fit(replace(plain_bank(alone, smaller, ["a", "b"] * 2), arrays=arrays))
    padding = {"inside_normal": np.tile(inside.ravel(), (4, 1)), "arrays": arrays}
    large = detectors[1].fit(replace(plain_bank(whole, LAYERS, ["a", "b"] * 2), **padding))
    assert small == large
    shown = np.tile(inside.ravel(), (3, 1))
    described = {"class": class_tokens(queries)}
    expected, of_images = detectors[0].score_pictures(Pictures(queries, None, described))
    found, images = detectors[1].score_pictures(Pictures(padded, shown, described))
    if images is not None:
        np.testing.assert_allclose(images, of_images, rtol=1e-5)
    np.testing.assert_allclose(found[shown].reshape(3, -1), expected, rtol=1e-4, atol=1e-6)


def test_positions_that_no_drawn_picture_shows_take_the_nearest_gaussian():
    inside = np.zeros((3, SIDE, SIDE), bool)
    inside[:, 1:5] = True
    inside[0, 1] = False  # shown by two of three
    normal = layered(3, 0)[1]
    detector = padim.Detector(padim.Settings.model_validate({"id": "p", "title": "P"}), 0)
    detector.fit(replace(plain_bank(normal), inside_normal=inside.reshape(3, -1)))
    query = layered(1, 1)[1]
    found = detector.score(query)[0].reshape(SIDE, SIDE)
    for row, source, shown in ((0, 1, [1, 2]), (1, 1, [1, 2]), (3, 3, [0, 1, 2]), (5, 4, [0, 1, 2])):
        points = normal[shown, SIDE * source + 2].astype(np.float64)
        inverse = np.linalg.inv(np.cov(points, rowvar=False) + 0.01 * np.eye(10))
        away = query[0, SIDE * row + 2] - points.mean(axis=0)
        assert found[row, 2] == pytest.approx(np.sqrt(away @ inverse @ away), rel=1e-5)
    np.testing.assert_array_equal(nearest_places(inside.reshape(3, -1))[:SIDE], np.arange(SIDE, 2 * SIDE))


def test_a_radius_that_holds_padding_alone_searches_everywhere():
    inside = np.zeros((2, SIDE, SIDE), bool)
    inside[:, 2:4] = True
    normal, query = layered(2, 0)[1], layered(1, 1)[1]
    near, everywhere = (
        rad.Detector(rad.Settings.model_validate({"id": "r", "title": "R", "radius": radius, "neighbours": None}), 0)
        for radius in (1, None)
    )
    for detector in (near, everywhere):
        detector.fit(replace(plain_bank(normal), inside_normal=inside.reshape(2, -1)))
    found, plain = (detector.score_pictures(Pictures(query))[0].reshape(SIDE, SIDE) for detector in (near, everywhere))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[[0, 5]], plain[[0, 5]], atol=1e-6)
    assert (found[1:5] >= plain[1:5] - 1e-6).all()
    assert (found[1:5] > plain[1:5] + 1e-6).any()


def test_a_coarse_token_is_the_pictures_where_any_of_its_patches_is():
    inside = np.zeros((1, SIDE, SIDE), bool)
    inside[0, 1:3] = True
    assert coarser(inside.reshape(1, -1), 3).reshape(3, 3).tolist() == [[True] * 3, [True] * 3, [False] * 3]
    assert repeated(np.ones((1, 9, 1)), SIDE).shape == (1, SIDE * SIDE, 1)


# ---------------------------------------------------------------------------------------------------- statistics and banks


def test_statistics_are_those_of_the_picture():
    padded = padded_bank(1)
    found = Preparation.of("standardised", padded.normal_vectors())
    kept = padded.normal[padded.inside_normal].astype(np.float64)
    np.testing.assert_allclose(found.mean, kept.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.deviation, kept.std(axis=0), rtol=1e-5)
    part = padded.of("c1")
    np.testing.assert_array_equal(part.inside_normal, padded.inside_normal[1::2])
    turned = padded.under("flip-vertical")
    for mask in (turned.inside, turned.inside_normal):
        np.testing.assert_array_equal(mask, padded.inside.reshape(-1, GRID, GRID)[:, ::-1].reshape(-1, N))
    assert turned.normal_vectors().shape == (padded.inside.sum(), CHANNELS)
    assert seen_inside(None, "clamp") is None


def drawn(folder, sizes: list[tuple[int, int]]) -> Draw:
    """Pictures of these heights and widths."""
    paths = []
    for number, size in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 255, (*size, 3)).astype(np.uint8)
        paths.append(save(pixels, folder / f"{number}.png").name)
    return Draw("drawn", len(sizes), 0, ["c"] * len(sizes), paths, paths, paths)


TINY = Encoder.model_validate(TINY_ENCODER | {"id": "tiny", "size_mode": "pad"})


def test_a_bank_says_what_is_padding_under_every_view(tmp_path):
    settings = Bank.model_validate(
        {"pairs": 2, "rotations": 4, "flips": ["horizontal"], "queries": ["flip-vertical", "clamp"]}
    )
    draw = drawn(tmp_path, [(20, 64), (64, 16), (40, 40)])
    images = drawn_images(draw, tmp_path)
    maker = PairEncoder(draw, images, settings, TINY, Compute(batch_size=4))
    build_bank(maker, [Array(tmp_path / "bank.safetensors")])
    stored, _ = BankTokens.load(tmp_path / "bank.safetensors")
    inside = stored.inside_normal.reshape(5, 3, TINY.grid, TINY.grid)
    views = support_views(settings)
    for view, masks in zip(views, inside, strict=True):
        for size, mask in zip([(64, 20), (16, 64), (40, 40)], masks, strict=True):
            width, height = view(Image.new("RGB", size)).size
            rows, columns = mask.any(axis=1).sum(), mask.any(axis=0).sum()
            assert mask.sum() == rows * columns
            assert rows == pytest.approx(TINY.grid * height / max(width, height), abs=1)
            assert columns == pytest.approx(TINY.grid * width / max(width, height), abs=1)
    flipped = stored.under("flip-vertical").inside_normal.reshape(inside.shape)
    np.testing.assert_array_equal(flipped, inside[:, :, ::-1])
    np.testing.assert_array_equal(stored.under("clamp").inside_normal, stored.inside_normal)
    fresh, _ = fresh_bank(draw, images, method("knn").model_copy(update={"bank": settings}), TINY, Compute())
    np.testing.assert_array_equal(fresh.inside_normal, stored.inside_normal)


@pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
def test_where_there_is_no_padding_a_bank_holds_no_mask(mode, tmp_path):
    draw, settings = drawn(tmp_path, [(40, 40), (64, 64)]), TINY.model_copy(update={"size_mode": mode})
    maker = PairEncoder(draw, drawn_images(draw, tmp_path), Bank(), settings)
    assert maker.inside_normal() is None
    draw = drawn(tmp_path, [(40, 40), (16, 64)])
    wide = PairEncoder(draw, drawn_images(draw, tmp_path), Bank(), settings)
    assert (wide.inside_normal() is None) == (mode != "pad")


@pytest.mark.parametrize("pairs", ["bank", "fresh"])
def test_loss_and_health_are_of_the_picture(pairs):
    """Recomputed plainly: every input is the clean picture, and nothing is learned at a rate of zero."""
    values = method("foundad").model_dump()
    values["training"] |= {"pairs": pairs, "steps": 2, "learning_rate": 1e-12, "feature_dropout": 0.0}
    values["training"] |= {"synthetic_probability": 0.0, "batch_size": 24}
    model = Model(Settings.model_validate(values), encoder("raw"), 0, top_k=3)
    padded = padded_bank(1, pairs == "fresh")
    record = model.fit(padded)["pooled"]
    scores = model.score(viewed(model, padded.normal), "c0", padded.inside)[0]
    assert record["losses"] == pytest.approx([scores[padded.inside].mean()] * 2, rel=1e-4)
    expected = np.mean([np.sort(scores[n][padded.inside[n]])[-10:].mean() for n in range(16)])
    assert record["health"]["clean_residual"] == pytest.approx(expected, rel=1e-4)


def test_no_token_attends_to_padding():
    projector = Projector(CHANNELS, N, ProjectorSettings(width=32, depth=2), generator=torch.Generator().manual_seed(0))
    inside = torch.from_numpy(wide_and_tall(1))
    values = torch.from_numpy(tokens(1, 3).astype(np.float32))
    found = projector(values, inside)[inside]
    np.testing.assert_allclose(found.detach(), projector(values[inside][None])[0].detach(), atol=1e-5)
