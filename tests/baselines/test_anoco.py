"""ANoCo against its formula, written densely and plainly in float64."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_baselines import fitted, tokens

from baselines import anoco


def dense(patches: np.ndarray, normal: np.ndarray, neighbours: int, weight: float, anchors: bool) -> np.ndarray:
    """Scores [Q] of ``patches`` [Q,D] among ``normal`` [M,D], patch by patch as the module's formula says."""
    patches, normal = patches.astype(np.float64), normal.astype(np.float64)
    length = np.linalg.norm
    lam = weight * length(normal, axis=1).mean()
    scores = []
    for q in patches:
        s = normal @ q / (length(normal, axis=1) * length(q))
        order = np.argsort(-s, kind="stable")[:neighbours]
        anchor = normal[order[0]]
        chosen = [order[0]]
        for j in order[1:]:
            if anchors and normal[j] @ anchor / (length(normal[j]) * length(anchor)) <= s[order[0]]:
                break
            chosen.append(j)
        w = np.array(
            [max(s[j], 0.05) * 2 * length(q) * length(normal[j]) / (length(q) + length(normal[j])) for j in chosen]
        )
        moved = (lam * q + w @ normal[chosen]) / (lam + w.sum())
        cosine = moved @ q / (length(moved) * length(q))
        scores.append(((moved - q) ** 2).sum() * (1 - cosine))
    return np.array(scores)


def decided(patches: np.ndarray, normal: np.ndarray) -> bool:
    """Whether no two cosines that the formula compares are closer than float32 tells apart."""
    directions, references = (
        found / np.linalg.norm(found, axis=1, keepdims=True) for found in (patches.astype(float), normal.astype(float))
    )
    cosines = directions @ references.T
    anchors = cosines.argmax(axis=1)
    beside = np.abs(references[anchors] @ references.T - cosines.max(axis=1, keepdims=True))
    beside[np.arange(len(patches)), anchors] = np.inf
    return min(beside.min(), np.diff(np.sort(cosines, axis=1), axis=1).min()) > 1e-6


@pytest.mark.parametrize("anchors", [True, False])
@pytest.mark.parametrize(("neighbours", "weight"), [(1, 0.0), (5, 0.1), (12, 2.0), (1000, 1.0)])
def test_scores_are_those_of_the_formula(neighbours, weight, anchors, monkeypatch):
    normal, images = tokens(3), tokens(2, seed=1)
    expected = dense(images.reshape(-1, 10), normal.reshape(-1, 10), neighbours, weight, anchors)
    keys = {"neighbours": neighbours, "weight": weight, "anchors": anchors}
    for gathered in (1, anoco.GATHERED):  # patch by patch, and all at once
        monkeypatch.setattr(anoco, "GATHERED", gathered)
        found = fitted(anoco, normal, **keys).score(images)
        np.testing.assert_allclose(found.ravel(), expected, rtol=2e-4, atol=1e-9 * expected.max())


def test_the_anchor_drops_neighbours():
    normal, images = tokens(3), tokens(2, seed=1)
    with_anchor, without = (fitted(anoco, normal, neighbours=20, anchors=on).score(images) for on in (True, False))
    assert (with_anchor != without).mean() > 0.5


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 3),
    channels=st.integers(2, 40),
    neighbours=st.integers(1, 60),
    weight=st.floats(0, 5),
    offset=st.floats(0.5, 4),
    seed=st.integers(0, 999),
)
def test_scores_are_those_of_the_formula_for_any_tokens(images, channels, neighbours, weight, offset, seed):
    generator = np.random.default_rng(seed)
    normal, queries = (
        (generator.normal(offset, 1, (n, 9, channels)) * generator.uniform(0.2, 5, (n, 9, 1))).astype(np.float32)
        for n in (images, 2)
    )
    assume(decided(queries.reshape(-1, channels), normal.reshape(-1, channels)))
    found = fitted(anoco, normal, neighbours=neighbours, weight=weight).score(queries)
    expected = dense(queries.reshape(-1, channels), normal.reshape(-1, channels), neighbours, weight, True)
    # The score of a patch close to its neighbours is a difference of nearly equal numbers; it stays small.
    np.testing.assert_allclose(found.ravel(), expected, rtol=2e-3, atol=1e-6 * expected.max() + 1e-12)
    assert (found >= 0).all()


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_properties_of_the_score(scale, seed):
    normal, images = tokens(3, seed=seed), tokens(2, seed=seed + 100)
    found = fitted(anoco, normal).score(images)
    # The length of all tokens scales the score by its square: lambda is in their units.
    scaled = fitted(anoco, (scale * normal).astype(np.float32)).score((scale * images).astype(np.float32))
    np.testing.assert_allclose(scaled, scale**2 * found, rtol=5e-3)
    # The order of the drawn images is no matter, and a rotation of all tokens neither.
    np.testing.assert_allclose(fitted(anoco, normal[::-1]).score(images), found, rtol=1e-4)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(10, 10)))[0]
    rotated = fitted(anoco, (normal @ rotation).astype(np.float32)).score((images @ rotation).astype(np.float32))
    np.testing.assert_allclose(rotated, found, rtol=5e-3, atol=1e-6 * found.max())
    # A patch of the memory stays where it is.
    assert fitted(anoco, normal, neighbours=1).score(normal).max() < 1e-9 * found.max()


def test_a_patch_unlike_everything_and_tokens_of_zeros_have_scores():
    normal = np.abs(tokens(2))
    opposed = -normal[:1]
    ordinary = fitted(anoco, normal).score(normal[1:] + 0.1).max()
    assert (fitted(anoco, normal).score(opposed) > 100 * ordinary).all()
    zeros = np.zeros_like(normal)
    assert np.isfinite(fitted(anoco, normal).score(zeros)).all()
    assert np.isfinite(fitted(anoco, zeros).score(normal)).all()


def test_the_search_may_run_in_torch():
    normal, images = tokens(3), tokens(2, seed=1)
    found = fitted(anoco, normal, search={"backend": "torch"}).score(images)
    np.testing.assert_allclose(found, fitted(anoco, normal).score(images), rtol=1e-4)
