"""Centre minus surround on patch scores."""

import numpy as np
import pytest
from conftest import TINY_ENCODER
from hypothesis import given
from hypothesis import strategies as st

from foundad.config.encoder import Encoder
from foundad.config.method import Contrast
from foundad.detection.bank import BankTokens
from foundad.detection.contrast import contrasted
from foundad.detection.model import Model
from foundad.detection.registry import settings_of


def plain(scores: np.ndarray, weight: float, sigma: float, inside: np.ndarray) -> np.ndarray:
    """One image [h,w], patch by patch, as the definition says it."""
    result = np.empty_like(scores)
    places = [tuple(place) for place in np.argwhere(inside)]
    for row, column in np.ndindex(*scores.shape):
        weights = [np.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * sigma**2)) for y, x in places]
        surround = sum(w * scores[place] for w, place in zip(weights, places, strict=True)) / sum(weights)
        result[row, column] = scores[row, column] - weight * surround
    return result


@given(st.integers(0, 1000), st.sampled_from([1, 3, 6]), st.floats(0.5, 8), st.floats(0.1, 1))
def test_it_is_its_definition(seed, grid, sigma, weight):
    generator = np.random.default_rng(seed)
    scores = generator.random((2, grid, grid)).astype(np.float32)
    inside = np.zeros((2, grid, grid), bool)
    inside[0, grid // 3 :], inside[1, :, : grid // 2 + 1] = True, True
    found = contrasted(scores.reshape(2, -1), Contrast(weight=weight, sigma=sigma), inside.reshape(2, -1))
    for image in range(2):
        right = plain(scores[image].astype(np.float64), weight, sigma, inside[image])
        shown = inside[image]
        np.testing.assert_allclose(found[image].reshape(grid, grid)[shown], right[shown], rtol=1e-5, atol=1e-6)


def test_nothing_is_assumed_outside_the_picture():
    """The border of a constant map is as its inner part, with padding as well."""
    scores = np.full((1, 64), 3.0, np.float32)
    inside = np.zeros((8, 8), bool)
    inside[2:5] = True
    for shown in (None, inside.reshape(1, -1)):
        np.testing.assert_allclose(contrasted(scores, Contrast(weight=0.5, sigma=2.0), shown), 1.5, rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.05, 1e6])
def test_extreme_surrounds_are_finite(sigma):
    scores = np.random.default_rng(0).random((1, 4096), dtype=np.float32)
    inside = np.zeros((64, 64), bool)
    inside[:3] = True  # most patches are far from all that count
    found = contrasted(scores, Contrast(weight=1.0, sigma=sigma), inside.reshape(1, -1))
    assert np.isfinite(found).all()


def test_a_light_over_half_of_the_picture_counts_less_than_a_spot():
    scores = np.zeros((16, 16), np.float32)
    scores[:, 8:] = 2.0
    scores[4, 4] = 1.5
    found = contrasted(scores.reshape(1, -1), Contrast(weight=1.0, sigma=2.0)).reshape(16, 16)
    assert found[4, 4] == found.max()


def test_a_model_scores_and_calibrates_with_it():
    encoder = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
    generator = np.random.default_rng(0)
    normal, images = (generator.normal(size=(n, encoder.grid**2, encoder.channels)).astype(np.float16) for n in (24, 3))
    bank = BankTokens(normal[:4], ["c"] * 4, normal[4:], normal[4:], ["c"] * 20)
    keys = {"id": "knn", "title": "knn", "detector": "knn"}
    models = [Model(settings_of("knn").model_validate(keys | more), encoder, 0, 5) for more in ({}, {"contrast": {}})]
    for model in models:
        model.fit(bank)
    (plain, _), (found, scores) = (model.score({"": {"patch": images}}, "c") for model in models)
    np.testing.assert_array_equal(found, contrasted(plain, Contrast()))
    np.testing.assert_array_equal(scores, models[1].image_scores(found))
    assert models[0].threshold("c") != models[1].threshold("c")
    assert models[1].threshold("c") < 2 * scores.max()
