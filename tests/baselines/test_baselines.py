"""Every rival against its formula written plainly, on tiny arrays."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, TINY_ENCODER, picture, save
from PIL import Image
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from test_search import plain_k_centre

from baselines import anomalydino, fastrecon, padim, patchcore, rad, spade, subspacead, visionad
from foundad.config.bank import Bank
from foundad.config.encoder import Encoder, Layer
from foundad.data.draws import Draw
from foundad.data.views import support_views, turned
from foundad.detection.bank import BankTokens
from foundad.detection.model import Model
from foundad.detection.pictures import Pictures
from foundad.detection.shared.coreset import project
from foundad.detection.shared.grids import averaged, repeated, resized, split
from foundad.encoders.base import FrozenEncoder
from foundad.pairs.encoder import PairEncoder, build_bank, drawn_images
from foundad.paths import Array
from foundad.plan.catalogue import load_catalogue

CATALOGUE = load_catalogue(ROOT / "config")
GRID, N = 6, 36


def tokens(images: int, channels: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 1, (images, N, channels)).astype(np.float32)


def bank(normal: np.ndarray, layers: tuple[Layer, ...] = (), names: list[str] | None = None) -> BankTokens:
    """Normal images whose class tokens are the first tokens of their grids."""
    arrays = {"": {"class": (normal[:, 0], normal[:0, 0])}}
    return BankTokens(normal, names or ["c"] * len(normal), normal[:0], normal[:0], [], layers=layers, arrays=arrays)


def scores(detector, images: np.ndarray) -> np.ndarray:
    """Patch scores of ``images``, whose class tokens are the first tokens of their grids."""
    return detector.score_pictures(Pictures(images, arrays={"class": images[:, 0]}))[0]


def fitted(module, normal: np.ndarray, layers: tuple[Layer, ...] = (), names: list[str] | None = None, **keys):
    settings = module.Settings.model_validate(
        {"id": "rival", "title": "Rival", "detector": module.__name__.split(".")[1]} | keys
    )
    detector = module.Detector(settings, 3)
    detector.record = detector.fit(bank(normal, layers, names))
    return detector


# ---------------------------------------------------------------------------------------------------- grids


def test_neighbourhoods_are_torchs_average_pooling():
    values = tokens(2)
    maps = torch.from_numpy(values).transpose(1, 2).reshape(2, 10, GRID, GRID)
    expected = F.avg_pool2d(maps, 3, 1, 1).flatten(2).transpose(1, 2)
    np.testing.assert_allclose(averaged(values, 3), expected, atol=1e-6)
    finer = F.interpolate(maps, (9, 9), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    np.testing.assert_allclose(resized(values, 9), finer, atol=1e-5)


def test_a_repeated_layer_is_taken_back():
    coarse, fine = tokens(2)[:, :9, :4], tokens(2, 3)
    joined = np.concatenate([fine, repeated(coarse, GRID)], axis=2)
    first, second = split(joined, [Layer(3, GRID), Layer(4, 3)])
    np.testing.assert_array_equal(first, fine)
    np.testing.assert_array_equal(second, coarse)


# ---------------------------------------------------------------------------------------------------- PatchCore


def test_patchcore_is_the_plain_loop_with_coreset_and_reweighting():
    normal, images = tokens(4), tokens(3, seed=1)
    detector = fitted(patchcore, normal, neighbourhood=1, coreset=0.25, projection=4, reweight=5)
    vectors = normal.reshape(-1, 10)
    first = int(np.random.default_rng(3).integers(len(vectors)))
    chosen = plain_k_centre(project(vectors, 4, 3), 36, first)
    memory = vectors[sorted(chosen)].astype(np.float64)
    np.testing.assert_array_equal(detector.memory.vectors, vectors[sorted(chosen)])
    patch_scores, image_scores = detector.score_images(images)
    for image, patches, score in zip(images, patch_scores, image_scores, strict=True):
        distances = cdist(image, memory)
        np.testing.assert_allclose(patches, distances.min(axis=1), rtol=1e-5)
        worst = distances.min(axis=1).argmax()
        match = distances[worst].argmin()
        around = np.argsort(cdist(memory[match : match + 1], memory)[0], kind="stable")[:5]
        weight = 1 - np.exp(distances[worst, match]) / np.exp(distances[worst, around]).sum()
        assert score == pytest.approx(weight * distances[worst, match], rel=1e-5)


def test_patchcore_averages_several_neighbours():
    normal, images = tokens(2), tokens(1, seed=1)
    detector = fitted(patchcore, normal, neighbourhood=1, neighbours=3)
    expected = np.sort(cdist(images[0], normal.reshape(-1, 10)), axis=1)[:, :3].mean(axis=1)
    patch_scores, image_scores = detector.score_images(images)
    np.testing.assert_allclose(patch_scores[0], expected, rtol=1e-5)
    assert image_scores is None


def test_patch_vectors_are_pooled_as_published():
    """Unfold, pool every layer, bring it to the grid, pool both; layer by layer with torch."""
    first, second = tokens(1, 8), tokens(1, 16, seed=1)[:, :9]
    found = patchcore.pooled([first[0], second[0]], 3, 12, GRID)
    layers = []
    for values in (first, second):
        own = round(values.shape[1] ** 0.5)
        maps = torch.from_numpy(values).transpose(1, 2).reshape(1, -1, own, own)
        windows = F.unfold(maps, 3, padding=1)  # [1, C * 9, n], a channel's nine values side by side
        vectors = F.adaptive_avg_pool1d(windows.transpose(1, 2), 12)
        finer = vectors.transpose(1, 2).reshape(1, 12, own, own)
        layers.append(
            F.interpolate(finer, (GRID, GRID), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
        )
    expected = F.adaptive_avg_pool1d(torch.cat(layers, dim=2), 12)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


# ---------------------------------------------------------------------------------------------------- AnomalyDINO


def test_anomalydino_is_the_cosine_distance_to_the_nearest():
    normal, images = tokens(2), tokens(2, seed=1)
    found = fitted(anomalydino, normal).score(images)
    expected = cdist(images.reshape(-1, 10), normal.reshape(-1, 10), "cosine").min(axis=1)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4, atol=1e-6)


def test_anomalydino_masks_the_categories_it_is_told_to():
    # A bright object in the centre of the picture.
    images = np.random.default_rng(0).normal(0, 0.1, (2, 144, 10)).astype(np.float32)
    inside = np.zeros((12, 12), bool)
    inside[3:9, 3:9] = True
    images[:, inside.ravel()] += 20
    mask = anomalydino.foreground(images[0], 10).reshape(12, 12)
    grown = np.zeros((12, 12), bool)
    grown[3:9, 2:10] = True  # dilated by one patch to the left and right
    np.testing.assert_array_equal(mask, grown)
    np.testing.assert_array_equal(anomalydino.foreground(-images[0], 10).reshape(12, 12), grown)
    for keys, masks in (({"mask": ["c"]}, True), ({"mask": ["d"]}, False), ({"mask": True}, True), ({}, False)):
        detector = fitted(anomalydino, images[:1] + 1, **keys)
        assert detector.record["masks"] == masks
        assert (detector.score(images[1:]).reshape(12, 12)[~grown] == 0).all() == masks
    both = fitted(anomalydino, images, names=["c", "d"], mask=["c"])
    assert not both.record["masks"]


# ---------------------------------------------------------------------------------------------------- the others


def test_subspacead_is_the_residual_of_sklearns_pca():
    plane = np.random.default_rng(5).normal(size=(4, 10))
    normal = (tokens(3, 4) @ plane + np.random.default_rng(6).normal(0, 0.1, (3, N, 10))).astype(np.float32)
    images = tokens(2, seed=1)
    detector = fitted(subspacead, normal, variance=0.99)
    reference = PCA(n_components=0.99, svd_solver="full").fit(normal.reshape(-1, 10).astype(np.float64))
    assert detector.record["components"] == reference.n_components_
    flat = images.reshape(-1, 10).astype(np.float64)
    left = flat - reference.inverse_transform(reference.transform(flat))
    np.testing.assert_allclose(detector.score(images).ravel(), (left**2).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize(("images", "channels"), [(1, 10), (4, 10), (30, 5)])
def test_padim_is_the_mahalanobis_distance(images, channels):
    normal, queries = tokens(images, channels), tokens(3, channels, seed=1)
    found = fitted(padim, normal).score(queries)
    for position in range(0, N, 7):
        points = normal[:, position].astype(np.float64)
        covariance = np.cov(points, rowvar=False) if images > 1 else np.zeros((channels, channels))
        inverse = np.linalg.inv(covariance + 0.01 * np.eye(channels))
        expected = cdist(queries[:, position], points.mean(axis=0)[None], "mahalanobis", VI=inverse)[:, 0]
        np.testing.assert_allclose(found[:, position], expected, rtol=1e-5)


def test_padim_draws_its_channels_once():
    detector = fitted(padim, tokens(2), dimensions=4)
    assert len(set(detector.learned["channels"].tolist())) == 4
    changed = tokens(1, seed=1)
    unread = np.setdiff1d(np.arange(10), detector.learned["channels"])
    before = detector.score(changed)
    changed[:, :, unread] += 5
    np.testing.assert_array_equal(detector.score(changed), before)


@pytest.mark.parametrize("neighbours", [1, 2, 50])
def test_spade_searches_the_most_similar_images_alone(neighbours):
    layers = (Layer(4, GRID), Layer(6, GRID))
    normal, images = tokens(3), tokens(2, seed=1)
    patch_scores, image_scores = fitted(spade, normal, layers, neighbours=neighbours, retrieval="last").score_images(
        images
    )
    for image, patches, score in zip(images, patch_scores, image_scores, strict=True):
        distances = cdist(image[None, :, 4:].mean(axis=1), normal[:, :, 4:].mean(axis=1))[0]
        similar = np.argsort(distances)[:neighbours]
        assert score == pytest.approx(distances[similar].mean(), rel=1e-4)
        gallery = normal[similar][:, :, :4].reshape(-1, 4)
        np.testing.assert_allclose(patches, cdist(image[:, :4], gallery).min(axis=1), rtol=1e-4)


def test_spade_averages_its_pyramid_at_each_layers_own_grid():
    layers = (Layer(4, GRID), Layer(6, 3))
    normal, images = tokens(2), tokens(1, seed=1)
    for array in (normal, images):
        array[:, :, 4:] = repeated(split(array, layers)[1], GRID)
    found = fitted(spade, normal, layers, retrieval="all").score(images)
    fine = cdist(images[0, :, :4], normal[:, :, :4].reshape(-1, 4)).min(axis=1)
    own = split(images, layers)[1][0], split(normal, layers)[1].reshape(-1, 6)
    coarse = resized(cdist(*own).min(axis=1).astype(np.float32)[None, :, None], GRID)[0, :, 0]
    np.testing.assert_allclose(found[0], (fine + coarse) / 2, rtol=1e-4)


def test_fastrecon_is_the_regression_in_closed_form():
    normal, images = tokens(3), tokens(2, seed=1)
    detector = fitted(fastrecon, normal, coreset=0.01, least=5, weight=2.0)
    vectors = normal.reshape(-1, 10)
    first = int(np.random.default_rng(3).integers(len(vectors)))
    S = vectors[sorted(plain_k_centre(vectors, 5, first))].astype(np.float64)
    mu = normal.mean(axis=0, dtype=np.float64)
    for image, found in zip(images, detector.score(images), strict=True):
        W = (image @ S.T + 2 * mu @ S.T) @ np.linalg.inv(3 * S @ S.T)
        np.testing.assert_allclose(found, np.linalg.norm(image - W @ S, axis=1), rtol=1e-5)


@pytest.mark.parametrize("radius", [None, 0, 1, 9])
def test_rad_searches_every_layer_alone_within_its_radius(radius):
    layers = (Layer(4, GRID), Layer(6, GRID))
    normal, images = tokens(3), tokens(2, seed=1)
    found = scores(fitted(rad, normal, layers, radius=radius), images)
    rows, columns = np.divmod(np.arange(N), GRID)
    away = np.maximum(abs(rows[:, None] - rows), abs(columns[:, None] - columns))
    far = np.tile(away > (N if radius is None else radius), 3)
    for image, patches in zip(images, found, strict=True):
        expected = 0
        for part in (slice(0, 4), slice(4, 10)):
            distances = cdist(image[:, part], normal[:, :, part].reshape(-1, part.stop - part.start), "cosine")
            expected += np.where(far, np.inf, distances).min(axis=1) / 2
        np.testing.assert_allclose(patches, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("radius", [None, 1])
def test_rad_searches_the_images_with_the_most_similar_class_tokens(radius):
    layers = (Layer(4, GRID), Layer(6, GRID))
    normal, images = tokens(5), tokens(2, seed=1)
    found = scores(fitted(rad, normal, layers, radius=radius, neighbours=2), images)
    for image, patches in zip(images, found, strict=True):
        similar = np.argsort(cdist(image[:1], normal[:, 0], "cosine")[0])[:2]
        alone = scores(fitted(rad, normal[similar], layers, radius=radius), image[None])
        np.testing.assert_allclose(patches, alone[0], rtol=1e-5, atol=1e-6)
    everything = scores(fitted(rad, normal, layers, radius=radius, neighbours=5), images)
    np.testing.assert_array_equal(everything, scores(fitted(rad, normal, layers, radius=radius), images))
    assert (found > everything + 1e-3).any()


def test_a_pooled_visionad_searches_the_category_that_looks_alike():
    shift = np.zeros((2, 1, 10), np.float32)
    shift[1, :, :5] = 8
    normal = tokens(4) + np.concatenate([shift, shift])
    images = tokens(2, seed=1) + shift
    found = scores(fitted(visionad, normal, names=["a", "b", "a", "b"]), images)
    for number in range(2):
        own = normal[number::2].reshape(-1, 10)
        np.testing.assert_allclose(
            found[number], cdist(images[number], own, "cosine").min(axis=1), rtol=1e-3, atol=1e-6
        )
    everything = scores(fitted(visionad, normal, names=["a", "b", "a", "b"], class_aware=False), images)
    assert (everything <= found + 1e-6).all()


# ---------------------------------------------------------------------------------------------------- views, image scores


def test_turned_pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    picture = Image.fromarray(pixels)
    np.testing.assert_array_equal(turned(picture, 90), np.rot90(pixels))
    np.testing.assert_array_equal(turned(picture, 360), pixels)
    wide = Image.fromarray(np.full((20, 31, 3), 77, np.uint8))
    for degrees in (45, 90, 180, 222.5):
        assert turned(wide, degrees).size == (31, 20)
        np.testing.assert_array_equal(turned(wide, degrees), np.asarray(wide))  # no black corners
    views = [view(picture) for view in support_views(Bank(rotations=4, flips=["vertical", "horizontal"]))]
    expected = [pixels, np.rot90(pixels), np.rot90(pixels, 2), np.rot90(pixels, 3), pixels[::-1], pixels[:, ::-1]]
    for view, wanted in zip(views, expected, strict=True):
        np.testing.assert_array_equal(view, wanted)


@pytest.mark.parametrize("name", ["knn", "anomalydino", "visionad"])
def test_the_passes_of_a_bank_are_those_that_are_made(name, tmp_path, monkeypatch):
    images = [save(picture(number)[0], tmp_path / f"{number}.png").name for number in range(4)]
    made = []
    encode = FrozenEncoder.in_memory

    def count(self, batch, names):
        made.append(len(batch))
        return encode(self, batch, names)

    monkeypatch.setattr(FrozenEncoder, "in_memory", count)
    settings = CATALOGUE.methods[name].bank
    draw = Draw("drawn", 4, 0, ["c"] * 4, images, images, images)
    tiny = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
    maker = PairEncoder(draw, drawn_images(draw, tmp_path), settings, tiny)
    build_bank(maker, [Array(tmp_path / "bank.safetensors")])
    assert settings.passes(4) == sum(made)
    assert name != "visionad" or sum(made) == 168


def test_a_bank_without_pairs(tmp_path):
    images = [save(picture(number)[0], tmp_path / f"{number}.png").name for number in range(2)]
    draw = Draw("drawn", 2, 0, ["c"] * 2, images, images, images)
    tiny = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
    settings = Bank(pairs=0, queries=["flip-vertical"])
    build_bank(PairEncoder(draw, drawn_images(draw, tmp_path), settings, tiny), [Array(tmp_path / "bank.safetensors")])
    bank, _ = BankTokens.load(tmp_path / "bank.safetensors", (draw, "tiny"))
    assert [len(part) for part in (bank.normal, bank.clean, bank.synthetic, *bank.viewed["flip-vertical"])] == [
        2,
        0,
        0,
        2,
        0,
    ]


def test_a_bank_without_views_keeps_its_name():
    from foundad.plan.project import bank_id

    knn = CATALOGUE.methods["knn"]
    assert bank_id(knn) == bank_id(CATALOGUE.methods["foundad"])
    assert not {"rotations", "flips", "queries"} & set(knn.bank.model_dump())
    assert bank_id(CATALOGUE.methods["anomalydino"]) != bank_id(knn)


@pytest.mark.parametrize(
    ("keys", "expected"), [({"top_k": 1}, 100), ({"top_share": 0.05}, 98), ({"top_share": 0.001}, 100)]
)
def test_image_scores_by_number_or_share(keys, expected):
    method = CATALOGUE.methods["knn"].model_copy(update=keys)
    model = Model(method, CATALOGUE.encoders["efficientnet-lite0"], 0, keys.get("top_k", 10))
    assert model.image_scores(np.arange(1, 101, dtype=np.float32)[None]).tolist() == [expected]


def test_image_scores_of_the_smoothed_map():
    encoder: Encoder = CATALOGUE.encoders["efficientnet-lite0"]
    keys = {"score_size": encoder.image_size, "top_k": 1, "smoothing": 4.0}
    model = Model(CATALOGUE.methods["knn"].model_copy(update=keys), encoder, 0, 1)
    spot = np.zeros((1, 256), np.float32)
    spot[0, 120] = 1
    assert 0 < model.image_scores(spot)[0] < 1
    assert model.image_scores(np.ones((1, 256), np.float32))[0] == pytest.approx(1)
