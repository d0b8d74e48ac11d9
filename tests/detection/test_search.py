"""Search and coreset: equal to the plain ways, on any sizes, in blocks or not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist

from foundad.config.method import Search
from foundad.detection.shared import coreset, search
from foundad.detection.shared.coreset import greedy_k_centre, project
from foundad.detection.shared.search import Memory, cosine, unit

BACKENDS = [Search(), Search(backend="torch"), Search(backend="torch", dtype="bfloat16")]


def plain_k_centre(vectors: np.ndarray, count: int, first: int) -> list[int]:
    chosen = [first]
    distances = np.full(len(vectors), np.inf)
    while len(chosen) < count:
        distances = np.minimum(distances, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
        distances[chosen] = -1
        chosen.append(int(np.argmax(distances)))
    return chosen


@pytest.mark.parametrize("settings", BACKENDS, ids=lambda s: f"{s.backend}-{s.dtype}")
@pytest.mark.parametrize("count", [1, 3, 9])
def test_the_nearest_are_found_across_all_blocks(settings, count, monkeypatch):
    monkeypatch.setattr(search, "QUERIES", 7)
    monkeypatch.setattr(search, "TILE", 11)
    generator = np.random.default_rng(count)
    vectors, queries = (generator.normal(size=(n, 24)).astype(np.float32) for n in (100, 30))
    distances, rows = Memory(vectors, settings).nearest(queries, count)
    expected = cdist(queries, vectors)
    if settings.dtype == "float32":
        np.testing.assert_array_equal(rows, np.argsort(expected, axis=1, kind="stable")[:, :count])
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :count], rtol=1e-5 if count < 9 else 0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpu_finds_the_same(dtype, monkeypatch):
    monkeypatch.setattr(search, "TILE_ON_GPU", 300)
    generator = np.random.default_rng(0)
    vectors, queries = (generator.normal(size=(n, 64)).astype(np.float32) for n in (1000, 200))
    expected, rows = Memory(vectors).nearest(queries, 2)
    distances, found = Memory(vectors, Search(backend="torch", dtype=dtype), "cuda").nearest(queries, 2)
    assert (found == rows).mean() > (0.999 if dtype == "float32" else 0.97)
    np.testing.assert_allclose(distances, expected, rtol=1e-5 if dtype == "float32" else 0.05)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_small_memories_ties_and_counts_beyond_the_memory(memory, queries, channels, count, seed):
    generator = np.random.default_rng(seed)
    vectors = generator.integers(-1, 2, (memory, channels)).astype(np.float32)
    asked = generator.integers(-1, 2, (queries, channels)).astype(np.float32)
    distances, rows = Memory(vectors).nearest(asked, count)
    expected = cdist(asked, vectors)
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, : min(count, memory)], rtol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(expected, rows, 1), distances, rtol=1e-6)
    assert all(len(set(row)) == len(row) for row in rows.tolist())


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(1, 700), st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_the_largest_values_with_ties_and_rests(rows, columns, count, ties, seed):
    values = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    if ties:
        values = values.round()
    found = search.largest(values, count)
    assert all(len(set(row)) == len(row) for row in found.tolist())
    expected = np.sort(values, axis=1)[:, -min(count, columns) :]
    np.testing.assert_array_equal(np.sort(np.take_along_axis(values, found, 1), axis=1), expected)


def test_candidates_are_the_nearest_in_any_order():
    generator = np.random.default_rng(0)
    memory, queries = Memory(generator.normal(size=(3000, 8))), generator.normal(size=(200, 8)).astype(np.float32)
    for count in (1, 5, 4000):
        expected = memory.nearest(queries, count)[1]
        np.testing.assert_array_equal(np.sort(memory.candidates(queries, count)), np.sort(expected))


def test_a_patch_of_the_memory_has_distance_zero_wherever_the_memory_lies():
    vectors = (np.random.default_rng(0).normal(size=(50, 8)) + 10).astype(np.float32)
    distances, rows = Memory(vectors).nearest(vectors)
    assert (distances == 0).all()
    assert rows[:, 0].tolist() == list(range(50))


@pytest.mark.parametrize("neighbours", [1, 4, 200])
def test_the_distance_to_the_mean_of_the_nearest(neighbours, monkeypatch):
    monkeypatch.setattr(search, "QUERIES", 7)
    generator = np.random.default_rng(0)
    vectors, queries = (generator.normal(size=(n, 8)).astype(np.float32) for n in (60, 20))
    order = np.argsort(cdist(queries, vectors), axis=1)[:, :neighbours]
    expected = np.linalg.norm(queries - vectors[order].mean(axis=1), axis=1)
    np.testing.assert_allclose(Memory(vectors).distances(queries, neighbours), expected, rtol=1e-5)


def test_the_nearest_of_every_segment():
    generator = np.random.default_rng(0)
    vectors, queries = (generator.normal(size=(n, 8)).astype(np.float32) for n in (30, 5))
    found = Memory(vectors).nearest_of_each(queries, np.array([0, 4, 20]))
    distances = cdist(queries, vectors)
    expected = [distances[:, part].min(axis=1) for part in (slice(0, 4), slice(4, 20), slice(20, 30))]
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-5)


def test_cosine_distances_of_vectors_of_length_one():
    generator = np.random.default_rng(0)
    vectors, queries = (generator.normal(size=(n, 8)) for n in (30, 5))
    distances, _ = Memory(unit(vectors)).nearest(unit(queries))
    np.testing.assert_allclose(cosine(distances[:, 0]), cdist(queries, vectors, "cosine").min(axis=1), rtol=1e-4)
    assert (unit(np.zeros((2, 3))) == 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 4), st.floats(0.01, 1), st.integers(2, 40), st.integers(0, 99))
def test_the_coreset_is_that_of_the_plain_loop(vectors, channels, share, farthest, seed):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(vectors, channels)) + generator.integers(0, 9, (vectors, 1))
    count, first = max(1, int(share * vectors)), int(generator.integers(vectors))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreset, "FARTHEST", farthest)
        patch.setattr(coreset, "TILE", 13)
        assert greedy_k_centre(points, count, first).tolist() == plain_k_centre(points, count, first)


def test_the_coreset_takes_ties_in_order_and_nothing_twice(monkeypatch):
    monkeypatch.setattr(coreset, "FARTHEST", 5)
    corners = np.array([[x, y] for x in range(6) for y in range(6)], float)
    assert greedy_k_centre(corners, 36).tolist() == plain_k_centre(corners, 36, 0)
    assert greedy_k_centre(np.ones((9, 3)), 9).tolist() == list(range(9))


def test_the_projection_keeps_distances_on_average():
    vectors = np.random.default_rng(0).normal(size=(60, 600)).astype(np.float32)
    ratio = pdist(project(vectors, 128, 0)) / pdist(vectors)
    assert ratio.mean() == pytest.approx(1, abs=0.05)
    assert project(vectors, 600, 0).shape == (60, 600)
