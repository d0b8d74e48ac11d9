"""Size modes: what a picture shows comes back to its place in the original frame, whatever its shape."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT, TINY_ENCODER, picture, save, write_yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foundad.cells import Cell
from foundad.cli import main
from foundad.config.bank import Bank
from foundad.config.encoder import Encoder
from foundad.config.method import Method
from foundad.data.draws import Draw
from foundad.data.frame import patches_between, patches_inside, picture_pixels, window, windows
from foundad.data.images import resize_square
from foundad.data.manifest import read_manifest
from foundad.data.patches import filled
from foundad.detection.bank import BankTokens
from foundad.detection.model import Model
from foundad.device import Compute
from foundad.encoders.base import to_input
from foundad.encoders.extraction import encode_files
from foundad.metrics.category import Category, evaluate_category
from foundad.metrics.maps import upsample
from foundad.metrics.masks import find_defects
from foundad.pairs.encoder import PairEncoder, build_bank, drawn_images
from foundad.paths import Array, Results
from foundad.plan.catalogue import load_catalogue
from foundad.predict import predict
from foundad.report.figures.gallery import Gallery
from foundad.scores import Scores, read_scores, write_scores

MODES = ("squash", "crop", "pad")
GRID, SIZE = 8, 64
# Width and height of areas of 16**2 to 400**2 pixels, 1:4 to 4:1.
sides = st.builds(
    lambda side, ratio: (round(side * ratio**0.5), round(side / ratio**0.5)), st.integers(16, 400), st.floats(0.25, 4)
)
modes = st.sampled_from(MODES)


def encoder(mode: str, **keys) -> Encoder:
    return Encoder.model_validate(TINY_ENCODER | {"id": "tiny", "size_mode": mode, **keys})


def patch_means(pixels: np.ndarray) -> np.ndarray:
    """Mean brightness of every patch of an input, [1,GRID,GRID]."""
    side = SIZE // GRID
    return pixels.astype(np.float64).mean(axis=2).reshape(1, GRID, side, GRID, side).mean(axis=(2, 4))


def returned(scores: np.ndarray, settings: Encoder, width: int, height: int) -> np.ndarray:
    """The map [height,width] of patch scores [1,GRID,GRID]."""
    return upsample(scores, (height, width), windows(settings, [(width, height)]))[0]


@given(modes, sides)
def test_positions_come_back_exactly(mode, shape):
    """Each patch scores its own place in the original; the map then says every pixel's place, up to the last patches."""
    width, height = shape
    settings = encoder(mode)
    top, bottom, left, right = window(settings, width, height)
    centres = (np.arange(GRID) + 0.5) / GRID
    inside = patches_inside(np.array([[top, bottom, left, right]]), GRID).reshape(GRID, GRID)
    for axis, (start, stop), length in ((0, (top, bottom), height), (1, (left, right), width)):
        places = (centres - start) / (stop - start)  # 0 and 1 at the edges of the picture
        scores = np.broadcast_to(places[:, None] if axis == 0 else places, (1, GRID, GRID)).astype(np.float32)
        found = returned(scores, settings, width, height)
        wanted = (np.arange(length) + 0.5) / length
        shown = places[inside.any(axis=1 - axis)]
        wanted = np.clip(wanted, shown.min(), shown.max())
        np.testing.assert_allclose(
            found, np.broadcast_to(wanted[:, None] if axis == 0 else wanted, found.shape), atol=1e-5
        )


@given(modes, sides, st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_a_planted_spot_is_found_at_its_place(mode, shape, x, y):
    """Through resizing, patches and back: the brightest pixel of the map lies within a patch of the spot's centre."""
    width, height = shape
    settings = encoder(mode)
    top, bottom, left, right = window(settings, width, height)
    row, column = top + y * (bottom - top), left + x * (right - left)
    if not (0.02 < row < 0.98 and 0.02 < column < 0.98):
        return  # cropped away: no patch sees it
    # The spot is as large as a patch on the input, which is this many pixels of the original.
    rows, columns = height / (bottom - top) / GRID, width / (right - left) / GRID
    pixels = np.zeros((height, width, 3), np.uint8)
    first_row, first_column = round(max(0, y * height - rows / 2)), round(max(0, x * width - columns / 2))
    spot = (
        slice(first_row, max(first_row + 1, round(y * height + rows / 2))),
        slice(first_column, max(first_column + 1, round(x * width + columns / 2))),
    )
    pixels[spot] = 255
    shown = to_input(Image.fromarray(pixels), encoder(mode, mean=[0, 0, 0]))
    found = returned(patch_means(shown), settings, width, height)
    peaks = np.argwhere(found >= found.max() - 1e-6) + 0.5
    assert (np.abs(peaks - [y * height, x * width]) <= [rows + 1, columns + 1]).all(axis=1).any()


@given(modes, sides)
def test_every_pixel_takes_part_and_padding_never(mode, shape):
    width, height = shape
    settings = encoder(mode)
    inside = patches_inside(windows(settings, [(width, height)]), GRID)
    scores = np.random.default_rng(0).uniform(0, 1, (1, GRID, GRID)).astype(np.float32)
    found = returned(scores, settings, width, height)
    assert np.isfinite(found).all()
    if inside is not None:
        assert inside.any()
        poisoned = np.where(inside.reshape(scores.shape), scores, 1e9).astype(np.float32)
        np.testing.assert_array_equal(returned(poisoned, settings, width, height), found)
        assert found.max() <= scores.ravel()[inside[0]].max() + 1e-6
    if mode == "crop":
        assert inside.all()


@given(sides)
def test_padding_keeps_the_shape_and_is_the_mean_colour(shape):
    width, height = shape
    settings = encoder("pad", mean=[0.2, 0.4, 0.6])
    pixels = to_input(Image.new("RGB", (width, height), (255, 0, 255)), settings)
    rows, columns = picture_pixels(settings, width, height)
    shown = (rows.stop - rows.start, columns.stop - columns.start)
    assert max(shown) == SIZE
    assert abs(min(shown) - SIZE * min(shape) / max(shape)) <= 0.5
    assert (pixels[rows, columns] == (255, 0, 255)).all()
    outside = np.ones((SIZE, SIZE), bool)
    outside[rows, columns] = False
    assert (pixels[outside] == (51, 102, 153)).all()


def test_cropping_shows_the_centre_and_a_square_needs_no_mode():
    pixels, _ = picture(3, 64)
    wide = np.zeros((64, 256, 3), np.uint8)
    wide[:, 96:160] = pixels
    np.testing.assert_array_equal(to_input(Image.fromarray(wide), encoder("crop")), pixels)
    square = Image.fromarray(picture(4, 90)[0])
    for mode in MODES:
        np.testing.assert_array_equal(to_input(square, encoder(mode)), resize_square(square, SIZE, "bilinear"))
    scores = np.random.default_rng(1).normal(size=(2, GRID, GRID)).astype(np.float32)
    plain = upsample(scores, (40, 50))
    for mode in MODES:
        np.testing.assert_array_equal(upsample(scores, (40, 50), windows(encoder(mode), [(9, 9)] * 2)), plain)


def test_what_was_cropped_takes_the_nearest_score():
    scores = np.arange(GRID * GRID, dtype=np.float32).reshape(1, GRID, GRID)
    found = returned(scores, encoder("crop"), 256, 64)
    np.testing.assert_array_equal(found[:, :97], np.repeat(found[:, 96:97], 97, axis=1))
    np.testing.assert_array_equal(found[:, 159:], np.repeat(found[:, 159:160], 97, axis=1))
    np.testing.assert_allclose(found[:, 96:160], upsample(scores, (64, 64))[0], atol=1e-4)


def test_a_very_flat_picture_has_a_patch():
    assert patches_between(0.49, 0.51, 7) == (3, 3)
    assert patches_between(0.499, 0.501, 8) == (4, 4)
    settings = encoder("pad")
    assert patches_inside(windows(settings, [(1000, 1)]), GRID).sum() == GRID
    assert to_input(Image.new("RGB", (1000, 1)), settings).shape == (SIZE, SIZE, 3)


def fitted(settings: Encoder, tokens: np.ndarray, inside: np.ndarray | None = None) -> Model:
    from foundad.detection import registry

    method = registry.settings_of("knn").model_validate({"id": "knn", "title": "Nearest", "detector": "knn"})
    assert isinstance(method, Method)
    model = Model(method, settings, 0, top_k=5)
    model.fit(BankTokens(tokens, ["c"] * len(tokens), tokens, tokens, ["c"] * len(tokens), inside=inside))
    return model


def drawn(folder, size: tuple[int, int]) -> Draw:
    names = []
    for number in range(3):
        tall = np.random.default_rng(number).integers(0, 255, (*size, 3)).astype(np.uint8)
        names.append(save(tall, folder / f"{number}.png").name)
    return Draw("drawn", 3, 0, ["c"] * 3, names, names, names)


@pytest.mark.parametrize("mode", MODES)
def test_features_banks_fresh_pairs_and_predictions_see_the_same_picture(mode, tmp_path, capsys):
    settings = encoder(mode)
    draw = drawn(tmp_path, (30, 90))
    maker = PairEncoder(
        draw,
        drawn_images(draw, tmp_path),
        Bank.model_validate({"augmentation": {"geometric_probability": 0, "appearance_probability": 0}}),
        settings,
    )
    normal = np.concatenate([tokens["patch"] for tokens in maker.normal(2)])
    encoded = encode_files(maker.encoder, [tmp_path / name for name in draw.image_paths], Compute(batch_size=2))
    features = np.concatenate([part["patch"] for part in encoded])
    np.testing.assert_array_equal(normal, features)
    clean, synthetic, inside = maker.pairs([0, 1, 2], [0, 1, 2], [True, True, True])
    np.testing.assert_allclose(clean, normal, atol=2e-3)
    assert (synthetic != clean).any(axis=(1, 2)).all()
    assert (inside is None) == (mode == "squash")
    model = fitted(settings, normal[:1], None if inside is None else inside[:1])
    model.save(tmp_path / "model.safetensors")
    predict(tmp_path / "model.safetensors", [tmp_path / "2.png"], None, tmp_path / "maps", device="cpu")
    score = float(capsys.readouterr().out.split("\t")[1])
    scores = model.score({"": {"patch": features[2:]}}, "c")[0]
    expected = scores[0] if inside is None else scores[0][inside[2]]
    assert score == pytest.approx(np.sort(expected)[-5:].mean(), rel=1e-4)
    with Image.open(tmp_path / "maps/2_anomaly.png") as heatmap:
        assert heatmap.size == (90, 30)


def test_pieces_stay_on_the_picture_and_turned_pictures_keep_their_own_padding(tmp_path):
    settings = encoder("pad")
    draw = drawn(tmp_path, (16, 64))
    bank = Bank.model_validate(
        {"pairs": 12, "augmentation": {"geometric_probability": 1, "horizontal_flip": False, "vertical_flip": False}}
    )
    maker = PairEncoder(draw, drawn_images(draw, tmp_path), bank, settings)
    inputs: list[np.ndarray] = []
    original = maker.encoder.in_memory
    maker.encoder.in_memory = lambda images, names: inputs.append(images.numpy()) or original(images, names)  # type: ignore[method-assign]
    *_, inside = maker.pairs([0, 1, 2], [0, 1, 2], [True] * 3)
    turned = np.zeros((GRID, GRID), bool)
    turned[:, 3:5] = True  # a quarter turn: what was wide is tall
    np.testing.assert_array_equal(inside, np.stack([turned.ravel()] * 3))
    clean, damaged = inputs[0][:3], inputs[0][3:]
    changed = (clean != damaged).any(axis=(0, 1, 2))
    assert changed[24:40].any()
    assert not changed[:24].any()
    assert not changed[40:].any()
    maker = PairEncoder(draw, drawn_images(draw, tmp_path), bank, settings, Compute(batch_size=4))
    build_bank(maker, [Array(tmp_path / "bank.safetensors")])
    stored, _ = BankTokens.load(tmp_path / "bank.safetensors")
    np.testing.assert_array_equal(stored.inside, np.stack([turned.ravel()] * 12))
    assert stored.of("c").calibration().inside.shape == (12, GRID * GRID)


def test_image_scores_and_thresholds_know_no_padding():
    tokens = np.random.default_rng(0).normal(size=(30, GRID * GRID, 40)).astype(np.float16)
    inside = np.zeros((30, GRID * GRID), bool)
    inside[:, 24:40] = True
    model = fitted(encoder("pad"), tokens, inside)
    scores = np.random.default_rng(1).uniform(0, 1, (4, GRID * GRID)).astype(np.float32)
    few = np.zeros_like(scores, bool)
    few[:, 5:8] = True  # fewer than top_k
    found = model.image_scores(np.where(inside[:4], scores, 1e6), inside[:4])
    np.testing.assert_allclose(found, np.sort(scores[:, 24:40])[:, -5:].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(model.image_scores(scores, few), scores[:, 5:8].mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(model.image_scores(scores, np.ones_like(few)), model.image_scores(scores))


def test_metrics_are_of_the_original_frame(tmp_path):
    """Patches that are exactly the defect give a perfect pixel metric in pad mode, on a mask of another shape."""
    settings = encoder("pad")
    mask = np.zeros((20, 80), np.uint8)
    mask[10:, 40:50] = 1
    found = windows(settings, [(80, 20)] * 2)
    scores = np.full((2, GRID, GRID), 5, np.float32)  # the padding is all anomalous
    scores[:, 3:5] = 0
    scores[0, 4, 4] = 1
    given = (np.array([1.0, 0.0]), np.array([1, 0]), scores, find_defects([mask, None], (SIZE, SIZE)))
    values = {value.metric: value.value for value in evaluate_category(Category(*given, windows=found))}
    assert values["strict/p_auroc"] > 0.99
    without = {value.metric: value.value for value in evaluate_category(Category(*given))}
    assert without["strict/p_auroc"] < 0.9
    path, cell, ids = tmp_path / "scores.safetensors", Cell("wide", "trained", "few", 1, 0), ["a", "b"]
    write_scores(path, Scores(scores, np.zeros(2, np.float32), np.zeros(2, np.float32), found), cell, ids)
    np.testing.assert_array_equal(read_scores(path, cell, ids)[0].windows, found)


def test_image_scores_of_maps_know_no_padding_either():
    tokens = np.random.default_rng(0).normal(size=(2, GRID * GRID, 40)).astype(np.float16)
    model = fitted(encoder("pad"), tokens)
    model.method = model.method.model_copy(update={"score_size": 48, "smoothing": 4.0})
    scores = np.random.default_rng(1).uniform(0, 1, (2, GRID * GRID)).astype(np.float32)
    inside = np.zeros_like(scores, bool)
    inside.reshape(2, GRID, GRID)[0, 2:5] = True
    inside.reshape(2, GRID, GRID)[1, :, 3] = True
    poisoned = np.where(inside, scores, 1e6).astype(np.float32)
    np.testing.assert_array_equal(model.image_scores(poisoned, inside), model.image_scores(scores, inside))
    whole = np.ones_like(inside)
    np.testing.assert_array_equal(filled(scores, whole), scores)
    np.testing.assert_array_equal(
        filled(scores, inside).reshape(2, GRID, GRID)[1, :, 7], scores.reshape(2, GRID, GRID)[1, :, 3]
    )


@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_every_stage_keeps_to_the_mode(mode, project, monkeypatch):
    """From YAML to metrics and a gallery: bright squares on wide pictures, where a patch sees them, are found in place."""
    monkeypatch.chdir(project)
    for number in range(9):
        kind = ("train/good", "test/good", "test/spot")[number // 3]
        pixels = np.random.default_rng(number).normal(110, 12, (64, 160, 3)).clip(0, 255).astype(np.uint8)
        if kind == "test/spot":
            mask = np.zeros((64, 160), np.uint8)
            mask[16:32, 60 + 10 * (number - 6) :][:, :16] = 255
            pixels[mask > 0] = 250
            save(mask, project / f"wide/ground_truth/spot/{number}_mask.png")
        save(pixels, project / f"wide/{kind}/{number}.png")
    common = {"title": "Wide", "licence": "CC0", "source": "drawn here"}
    write_yaml(project / "config/datasets/wide.yaml", common | {"layout": "mvtec", "root": ".", "categories": ["wide"]})
    trained = yaml.safe_load((ROOT / "config/encoders/efficientnet-lite0.yaml").read_text())
    write_yaml(project / "config/encoders/trained.yaml", trained | {"size_mode": mode})
    write_yaml(project / "config/methods/few.yaml", {"base": "knn", "title": "Few pairs", "bank": {"pairs": 2}})
    draw = ["--shots", "2", "--seed", "0"]
    for stage in (
        ["manifest", "wide"],
        ["draw", "wide", *draw],
        ["features", "wide", "trained", "--device", "cpu"],
        ["bank", "wide", "trained", "few", *draw, "--device", "cpu"],
        ["fit", "wide", "trained", "few", *draw, "--device", "cpu"],
        ["masks", "wide", "--side", "256"],
        ["evaluate", "wide", "trained", "few", *draw],
    ):
        assert main(stage) == 0
    folder = project / "results/cells/wide/trained/few/k2-s0"
    metrics = pq.read_table(folder / "metrics.parquet").to_pandas().set_index("metric")["value"]
    assert metrics["i_auroc"] == 1
    assert metrics["strict/p_auroc"] > 0.9
    ids = [row.image_id for row in read_manifest(project / "results/manifests/wide.parquet").test]
    scores, _ = read_scores(folder / "scores.safetensors", Cell("wide", "trained", "few", 2, 0), ids)
    found = scores.windows
    lost = (0.0, 1.0, -0.75, 1.75) if mode == "crop" else (77 / 256, 179 / 256, 0.0, 1.0)
    np.testing.assert_allclose(found, np.tile(lost, (6, 1)))
    keys = {"dataset": "wide", "encoder": "trained", "method": "few", "shots": 2, "seed": 0}
    gallery = Gallery.model_validate({"kind": "gallery", "title": "Wide", **keys})
    catalogue = load_catalogue(project / "config")
    gallery.draw(Results(project / "results"), catalogue, catalogue.experiments["small"], project / "gallery.png")
    assert (project / "gallery.png").stat().st_size > 10_000
