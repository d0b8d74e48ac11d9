"""One suite over every method file: whatever is dropped into config/methods is tested for free."""

import doctest
import hashlib
import subprocess
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from conftest import ROOT
from safetensors import safe_open

from foundad.config.bank import QueryView
from foundad.config.encoder import Encoder, Stages
from foundad.config.method import TOLD, Method
from foundad.detection import protocol
from foundad.detection.bank import BankTokens, FreshPairs
from foundad.detection.model import Model, Part, upper_quantile
from foundad.errors import UserError
from foundad.plan.catalogue import load_catalogue

CATALOGUE = load_catalogue(ROOT / "config")
SCORING = [name for name, method in CATALOGUE.methods.items() if "truth" not in method.needs]
METHODS = [name for name in SCORING if not CATALOGUE.methods[name].control]
GRID, CHANNELS = 4, 16


def encoder(tokens: str = "unit") -> Encoder:
    features = Stages(strides=[8, 16], grid=GRID, channels=[6, CHANNELS - 6])
    return CATALOGUE.encoders["efficientnet-lite0"].model_copy(
        update={"features": features, "channels": CHANNELS, "tokens": tokens}
    )


def method(name: str):
    """The method with so little work that its tests are quick."""
    return CATALOGUE.methods[name].quick()


def tokens(count: int, seed: int) -> np.ndarray:
    """Patch tokens that lie on a plane, with a little noise."""
    generator = np.random.default_rng(seed)
    plane = np.random.default_rng(0).normal(size=(2, CHANNELS))
    values = generator.normal(size=(count, GRID * GRID, 2)) @ plane + 3
    values += generator.normal(0, 0.05, values.shape)
    return values.astype(np.float16)


def bank(images: int = 2, seed: int = 1, categories: int = 1) -> BankTokens:
    normal = tokens(images * categories, seed)
    names = [f"c{number % categories}" for number in range(images * categories)]
    synthetic = normal.copy()
    synthetic[:, 3:6] += np.random.default_rng(seed).normal(0, 3, (CHANNELS,)).astype(np.float16)

    def make(sources, numbers, damaged):
        clean = normal[list(sources)]
        return clean, np.where(np.array(damaged)[:, None, None], synthetic[list(sources)], clean), None

    views = {v: (turned_back_tokens(normal, v),) * 2 for v in get_args(QueryView)}
    fresh = FreshPairs(make, list(range(len(normal))))
    arrays = {view: {"class": (class_tokens(normal),) * 2} for view in ("", *views)}
    return BankTokens(normal, names, normal, synthetic, names, fresh, viewed=views, arrays=arrays)


def bank_of(name: str, images: int = 2, categories: int = 1) -> BankTokens:
    """A bank as a cell of the method has it: with stored pairs, or with the drawn images to make pairs of."""
    found = bank(images, categories=categories)
    return found if "images" in method(name).needs else replace(found, fresh=None)


def scores(model: Model, images: np.ndarray, category: str | None = "c0") -> np.ndarray:
    """Patch scores; what a query view would show is not told apart from the picture itself.

    A method that needs the whole test set sees the images among eight normal ones.
    """
    seen = np.concatenate([images, tokens(8, 99)]) if "test set" in model.method.needs else images
    return model.score(viewed(model, seen), category, image_ids=names(seen))[0][: len(images)]


def names(images: np.ndarray) -> list[str]:
    """An id for each image that stays with it in any order."""
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def viewed(model: Model, images: np.ndarray, described: np.ndarray | None = None) -> dict[str, dict[str, np.ndarray]]:
    """What an encoder says of ``images``; its class tokens are those of ``described`` where other tokens are given."""
    described = class_tokens(images if described is None else described)
    return {view: {"patch": turned_back_tokens(images, view), "class": described} for view in model.views}


def class_tokens(images: np.ndarray) -> np.ndarray:
    """A class token for each image [B,C] float16, of another width than patch tokens and the same under every view."""
    return images.mean(axis=1, dtype=np.float64)[:, : CHANNELS - 3].astype(np.float16)


def turned_back_tokens(images: np.ndarray, view: str) -> np.ndarray:
    """Tokens as an encoder that sees each patch alone would give them of the picture under ``view``."""
    grids = images.reshape(len(images), GRID, GRID, -1)
    if view.startswith("flip"):
        grids = grids[:, ::-1] if view == "flip-vertical" else grids[:, :, ::-1]
    return grids.reshape(images.shape)


def fitted(name: str, seed: int = 0, kind: str = "unit", **changes) -> Model:
    settings = method(name).model_copy(update=changes)
    model = Model(settings, encoder(kind), seed, top_k=3)
    model.fit(bank_of(name))
    return model


def test_the_example_of_the_contract_runs():
    found = doctest.testmod(protocol)
    assert found.attempted > 5
    assert found.failed == 0


@pytest.mark.parametrize("name", SCORING)
@pytest.mark.parametrize("kind", ["raw", "unit", "standardised"])
def test_scores_are_finite_and_deterministic(name, kind):
    images = tokens(3, 7)
    first, second = (scores(fitted(name, kind=kind), images) for _ in range(2))
    assert first.shape == (3, GRID * GRID)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", SCORING)
def test_saving_and_loading_gives_bitwise_equal_scores(name, tmp_path):
    model, images = fitted(name), tokens(3, 7)
    model.save(tmp_path / "model.safetensors")
    model.save(tmp_path / "again.safetensors")
    loaded = Model.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(scores(loaded, images), scores(model, images))
    assert loaded.method == model.method
    assert loaded.encoder == model.encoder
    digests = {hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.iterdir()}
    assert len(digests) == 1


@pytest.mark.parametrize("name", SCORING)
def test_neither_batch_size_nor_order_changes_a_score(name):
    """A method whose scores may do so says that it is transductive, and its title in tables says it too."""
    if "test set" in method(name).needs:
        assert "transductive" in method(name).label
        return
    model, images = fitted(name), tokens(5, 7)
    together = scores(model, images)
    alone = np.concatenate([scores(model, images[n : n + 1]) for n in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores(model, images[::-1])[::-1], together, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_planted_square_is_found(name):
    images = tokens(1, 7)
    foreign = np.random.default_rng(3).normal(size=CHANNELS).astype(np.float16) * 4
    planted = [5, 6, 9, 10]
    images[0, planted] = foreign
    found = scores(fitted(name), images)[0]
    assert set(np.argsort(found)[-4:]) == set(planted)


@pytest.mark.parametrize("name", SCORING)
def test_one_image_and_constant_features_are_enough(name):
    model = Model(method(name), encoder(), 0, top_k=3)
    model.fit(bank_of(name, images=1))
    constant = np.ones((1, GRID * GRID, CHANNELS), np.float16)
    flat = Model(method(name), encoder("standardised"), 0, top_k=3)
    fresh = FreshPairs(lambda sources, _, __: (constant[[0] * len(sources)],) * 2 + (None,), [0])
    fresh = fresh if "images" in flat.method.needs else None
    views = dict.fromkeys(flat.views[1:], (constant, constant))
    arrays = {view: {"class": (class_tokens(constant),) * 2} for view in flat.views}
    flat.fit(BankTokens(constant, ["c0"], constant, constant, ["c0"], fresh, viewed=views, arrays=arrays))
    assert np.isfinite(scores(flat, constant)).all()


@pytest.mark.parametrize("name", SCORING)
@pytest.mark.parametrize("scope", ["pooled", "category"])
def test_categories_may_have_different_numbers_of_images(name, scope):
    everything = bank_of(name, images=2, categories=2)
    kept = [0, 1, 2]  # c0, c1, c0
    uneven = replace(
        everything,
        normal=everything.normal[kept],
        normal_categories=["c0", "c1", "c0"],
        fresh=everything.fresh and replace(everything.fresh, sources=kept),
        viewed={view: (normal[kept], clean) for view, (normal, clean) in everything.viewed.items()},
        arrays={
            view: {name: (normal[kept], clean) for name, (normal, clean) in arrays.items()}
            for view, arrays in everything.arrays.items()
        },
    )
    model = Model(method(name).model_copy(update={"scope": scope}), encoder(), 0, top_k=3)
    model.fit(uneven)
    for category in ("c0", "c1"):
        assert np.isfinite(scores(model, tokens(2, 7), category)).all()


@pytest.mark.parametrize("name", SCORING)
def test_the_record_says_what_a_model_keeps(name, tmp_path):
    model = Model(method(name), encoder(), 0, top_k=3)
    record = model.fit(bank_of(name))
    model.save(tmp_path / "model.safetensors")
    kept = sum(part["state_bytes"] for part in record.values())
    preparations = sum(p.mean.nbytes + p.deviation.nbytes for p, _ in model.parts.values())
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        stored = sum(file.get_tensor(key).nbytes for key in file.keys())  # noqa: SIM118 - safetensors is no dict
    assert kept == stored - preparations


def test_no_torch_until_a_method_computes_with_it():
    """Validation and planning read every method's settings; methods that do without torch start without it."""
    code = (
        "import sys; from foundad.detection import registry; from foundad.device import ON_CPU;"
        "from foundad.plan.catalogue import load_catalogue; load_catalogue();"
        "found = [registry.settings_of(name)(id='x', title='x', detector=name) for name in registry.detectors()];"
        "[registry.build(settings, 0, ON_CPU) for settings in found if not settings.uses_device];"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", SCORING)
def test_scope_category_with_one_category_equals_pooled(name):
    images = tokens(3, 7)
    pooled, single = (scores(fitted(name, scope=scope), images) for scope in ("pooled", "category"))
    np.testing.assert_array_equal(pooled, single)


def test_scope_category_fits_one_detector_each_and_names_unknown_categories():
    model = Model(CATALOGUE.methods["knn"].model_copy(update={"scope": "category"}), encoder(), 0, top_k=3)
    model.fit(bank(categories=2))
    assert set(model.parts) == {Part("c0"), Part("c1")}
    with pytest.raises(UserError, match="'other': this model knows c0, c1"):
        model.score(viewed(model, tokens(1, 0)), "other")


ODD = [
    "pooled",
    "@",
    "",
    "c@clamp",
    "@c",
    "c",
    "c%40clamp",
    "c/state",
    "c/mean",
    "c/deviation/x",
    "c/d",
    "pooled@clamp",
    "é",
]


def test_parts_of_any_categories_have_names_of_their_own():
    parts = [Part(category, view) for category in (None, *ODD) for view in ("", "clamp")]
    assert [Part.named(part.name) for part in parts] == parts
    arrays = [
        f"{p.name}/{key}" for p in parts for key in ("mean", "deviation", "state/mean", "state/x/mean", "state/y")
    ]
    assert len(set(arrays)) == len(arrays)
    for part in parts:
        others = [name for name in arrays if name.startswith(f"{part.name}/state/")]
        assert len(others) == 3
    plain = [Part(), Part("c", "clamp"), Part("c/d"), Part("c%40clamp"), Part("é")]
    assert [part.name for part in plain] == ["pooled", "c@clamp", "c/d", "c%40clamp", "é"]


def test_a_category_of_any_name_captures_no_other(tmp_path):
    learned = bank(images=3, categories=len(ODD))
    named = [ODD[int(name[1:])] for name in learned.normal_categories]
    settings = method("visionad").model_copy(update={"scope": "category"})
    odd, plain = (Model(settings, encoder(), 0, top_k=3) for _ in range(2))
    records = odd.fit(replace(learned, normal_categories=named, pair_categories=named)), plain.fit(learned)
    assert [records[0][name] for name in ODD] == [records[1][f"c{number}"] for number in range(len(ODD))]
    odd.save(tmp_path / "model.safetensors")
    loaded, images = Model.load(tmp_path / "model.safetensors"), tokens(2, 7)
    assert loaded.thresholds == odd.thresholds
    for number, name in enumerate(ODD):
        for model in (odd, loaded):
            np.testing.assert_array_equal(scores(model, images, name), scores(plain, images, f"c{number}"))
    for unknown in (None, "other", "clamp"):
        with pytest.raises(UserError, match="this model knows"):
            loaded.score(viewed(loaded, images), unknown)


def test_titles_say_what_a_competitor_is_told_beyond_the_drawn_images():
    class Asking(Method):
        asked: tuple[str, ...] = ()

        @property
        def needs(self):
            return super().needs | set(self.asked)

    def title(**keys) -> str:
        return Asking(id="x", title="Asking", detector="knn", **keys).label

    assert title() == "Asking"
    assert title(asked=["images"]) == "Asking"
    assert title(scope="category", asked=["truth", "test set"]) == "Asking (per category) (transductive) (ground truth)"
    assert title(asked=["truth"], control=True) == "Asking"
    assert {need for settings in CATALOGUE.methods.values() for need in settings.needs} <= set(TOLD)


def test_nearest_neighbour_is_exact():
    generator = np.random.default_rng(0)
    model = Model(CATALOGUE.methods["knn"], encoder("raw"), 0, top_k=3)
    learned = bank(images=4)
    model.fit(learned)
    images = generator.normal(size=(2, GRID * GRID, CHANNELS)).astype(np.float32)
    memory = learned.normal.reshape(-1, CHANNELS).astype(np.float64)
    expected = np.linalg.norm(images.reshape(-1, 1, CHANNELS) - memory, axis=2).min(axis=1).reshape(2, -1)
    np.testing.assert_allclose(scores(model, images, None), expected, rtol=1e-4)


def test_image_scores_are_the_mean_of_the_largest_patches():
    model = Model(CATALOGUE.methods["random"], encoder(), 0, top_k=3)
    patch_scores = np.array([[1.0, 9, 2, 8, 7], [0, 0, 0, 0, 3]], np.float32)
    np.testing.assert_allclose(model.image_scores(patch_scores), [8, 1])
    assert model.image_scores(patch_scores[:, :2]).tolist() == [5, 0]


@pytest.mark.parametrize(("images", "position"), [(18, None), (19, 19), (39, 38), (64, 62), (1000, 951)])
def test_the_threshold_is_the_conformal_quantile(images, position):
    image_scores = np.random.default_rng(0).permutation(np.arange(1, images + 1)).astype(np.float32)
    assert upper_quantile(image_scores, 0.05) == position


def test_a_threshold_holds_its_rate_on_new_images():
    generator = np.random.default_rng(0)
    rates = [(generator.normal(size=500) > upper_quantile(generator.normal(size=30), 0.05)).mean() for _ in range(400)]
    assert np.mean(rates) == pytest.approx(0.05, abs=0.02)
    assert np.mean(rates) < 0.055


@pytest.mark.parametrize("name", METHODS)
def test_a_model_learns_its_threshold_from_normal_images(name, tmp_path):
    model = Model(method(name), encoder(), 0, top_k=3)
    model.fit(bank_of(name, images=24))
    threshold = model.threshold("c0")
    # Controls that see no images, and models of too few, have none.
    learns = bool({"bank", "images"} & method(name).needs)
    assert (threshold is not None and np.isfinite(threshold)) == learns
    model.save(tmp_path / "model.safetensors")
    assert Model.load(tmp_path / "model.safetensors").threshold("c0") == threshold
    few = Model(method(name), encoder(), 0, top_k=3)
    few.fit(bank_of(name, images=2))
    assert (few.threshold("c0") is None) == ("images" not in method(name).needs)


def test_the_noise_of_the_control_comes_from_ids_and_the_seed_alone():
    model = fitted("random")
    images, ids = tokens(3, 7), ["a/good/000", "a/good/001", "b/good/000"]

    def noise(model: Model, images: np.ndarray, ids: list[str]) -> np.ndarray:
        return model.score(viewed(model, images), "c0", image_ids=ids)[0]

    found = noise(model, images, ids)
    # Other tokens, as another machine, precision or encoder gives them, and another order and batch.
    np.testing.assert_array_equal(noise(model, images.astype(np.float32) + 1e-3, ids), found)
    np.testing.assert_array_equal(noise(model, images[:1], ids[2:]), found[2:])
    # What the published algorithms give everywhere: SHA-256 of the id, PCG64 of seed and digest.
    np.testing.assert_allclose(found[0, :3], [0.48892373, 0.5747164, 0.6115106], atol=1e-7)
    assert len(np.unique(found)) == found.size
    assert (noise(fitted("random", seed=1), images, ids) != found).all()
    with pytest.raises(UserError, match="random: its scores come from the images' ids"):
        model.score(viewed(model, images), "c0")


def test_training_that_diverges_says_so():
    settings = method("foundad")
    values = settings.model_dump()
    values["training"] |= {"learning_rate": 1e30, "steps": 20}
    model = Model(type(settings).model_validate(values), encoder(), 0, top_k=3)
    with pytest.raises(UserError, match="not finite at step"):
        model.fit(bank())
