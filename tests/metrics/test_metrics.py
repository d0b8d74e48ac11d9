"""Ranking metrics and PRO against stored results of public implementations, scikit-learn and a naive oracle."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from foundad.errors import BrokenFile, UserError
from foundad.metrics.category import Category, evaluate_category
from foundad.metrics.defects import read_defects, write_defects
from foundad.metrics.maps import upsample
from foundad.metrics.masks import defects_of, find_defects
from foundad.metrics.metric import PROTOCOLS, Metric
from foundad.metrics.pimo import aupimo
from foundad.metrics.pixels import Maps, Scene
from foundad.metrics.pro import aupro, released_aupro_30, thresholds_below
from foundad.metrics.ranking import auroc, average_precision, f1_max, order, passing, sort_with
from foundad.metrics.registry import MAIN, METRICS
from foundad.metrics.runs import runs_of

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "metrics.npz")
RESULTS = json.loads(str(GOLDEN["results_json"]))
CASES = ("regions", "ties", "skewed")


def pixels_of(masks: np.ndarray, maps: np.ndarray, protocol: str = "strict", corners: bool = True):
    """The pixels of binary masks and maps [n,H,W] of the same size, both of them the truth of both protocols."""
    size = masks.shape[1:]
    defects = defects_of((3 * (mask > 0).astype(np.uint8) for mask in masks), size, corners)
    return Scene(Maps(maps.astype(np.float32), size, 0.0), defects, ~masks.any((1, 2))).under(protocol)


def result(*path: str):
    """A stored number, wherever the case's dictionary keeps it."""
    value = RESULTS
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_aupro_equals_the_exact_oracle(case, connectivity, limit):
    found = pixels_of(GOLDEN[f"{case}/masks"], GOLDEN[f"{case}/scores"], corners=connectivity == 8)
    expected = result(case, f"exact_aupro_conn{connectivity}", str(limit))
    assert aupro(found, limit) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_aupro_equals_anomalib(case):
    found = pixels_of(GOLDEN[f"{case}/masks"], GOLDEN[f"{case}/scores"])
    assert aupro(found, 0.3) == pytest.approx(result(case, "anomalib_aupro", "0.3"), abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_pixel_ranking_equals_the_reference(case):
    masks, maps = GOLDEN[f"{case}/masks"], GOLDEN[f"{case}/scores"]
    found = order(maps[masks > 0], maps[masks == 0])
    expected = result(case, "reference", "pixel")
    assert auroc(found) == pytest.approx(expected["auroc"], abs=1e-9)
    assert average_precision(found) == pytest.approx(expected["aupr"], abs=1e-9)
    assert f1_max(found)[0] == pytest.approx(expected["f1_max"], abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_released_pro_equals_the_reference(case):
    masks, maps = GOLDEN[f"{case}/masks"], GOLDEN[f"{case}/scores"]
    # The reference normalises the maps of a category to [0,1] before it places its thresholds.
    expected = result(case, "reference", "calculate_pro_200_0.3")
    assert released_aupro_30(pixels_of(masks, maps, "released")) == pytest.approx(expected, abs=1e-9)


def test_released_pro_of_soft_masks():
    masks = GOLDEN["soft/masks_u8"].astype(np.float32) / 255
    expected = result("soft", "reference", "calculate_pro_200_0.3")
    found = pixels_of(masks == 1, GOLDEN["soft/scores"], "released")
    soft = (1 - masks.astype(np.float64)).sum((1, 2))
    found.scene.defects = replace(found.scene.defects, soft=soft)
    assert released_aupro_30(found) == pytest.approx(expected, abs=1e-9)


scores_and_labels = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float32, n, elements=st.integers(-4, 4).map(float)),
        hnp.arrays(np.int64, n, elements=st.integers(0, 1)),
    )
)


@given(scores_and_labels)
def test_ranking_equals_scikit_learn_with_ties(case):
    scores, labels = case
    if labels.min() == labels.max():
        return
    found = order(scores[labels == 1], scores[labels == 0])
    assert auroc(found) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(found) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    assert f1_max(found)[0] == pytest.approx(f1.max(), abs=1e-12)


def naive_aupro(masks, maps, limit):
    """Every distinct score a threshold, regions by flood fill, area by hand."""
    weights = np.zeros(masks.shape)
    labels = [ndimage.label(mask, np.ones((3, 3))) for mask in masks]
    for image, (label, count) in zip(weights, labels, strict=True):
        for region in range(1, count + 1):
            image[label == region] = 1 / (label == region).sum() / sum(count for _, count in labels)
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        points.append((float((found & (masks == 0)).sum() / (masks == 0).sum()), float(weights[found].sum())))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        y = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y) / 2
    return area / limit


@given(
    hnp.arrays(np.uint8, (2, 5, 5), elements=st.integers(0, 1)),
    hnp.arrays(np.float32, (2, 5, 5), elements=st.integers(0, 6).map(float)),
    st.sampled_from([0.05, 0.3, 1.0]),
)
def test_aupro_equals_a_naive_oracle(masks, maps, limit):
    if masks.min() == masks.max():
        return
    found = aupro(pixels_of(masks, maps), limit)
    assert found == pytest.approx(naive_aupro(masks, maps, limit), abs=1e-12)
    assert aupro(pixels_of(masks, np.exp(maps)), limit) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize(
    ("grid", "size"), [((4, 4), (16, 16)), ((7, 5), (33, 40)), ((16, 16), (256, 256)), ((8, 8), (8, 8))]
)
def test_upsampling_is_torch_bilinear(grid, size):
    scores = np.random.default_rng(0).random((3, *grid), dtype=np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(scores)[:, None], size, mode="bilinear")[:, 0]
    np.testing.assert_allclose(upsample(scores, size), expected.numpy(), atol=1e-6)


def category(patch_scores, masks, labels, **more):
    """Images whose scores are their highest patch, above the model's threshold where that is above 0.5."""
    loaded = [mask if label else None for mask, label in zip(masks, labels, strict=True)]
    scores, thresholds = patch_scores.max((1, 2)), np.full(len(labels), 0.5)
    defects = find_defects(loaded, masks.shape[1:])
    return Category(scores, labels, patch_scores, defects, thresholds=thresholds, **more)


def evaluated(patch_scores, masks, labels):
    values = evaluate_category(category(patch_scores, masks, labels))
    return {value.metric: value for value in values}


def test_every_metric_of_the_registry_is_computed_and_perfect_maps_score_one():
    masks = np.zeros((4, 32, 32), np.uint8)
    masks[:2, 5:9, 7:20] = 1
    values = evaluated(masks.astype(np.float32), masks, np.array([1, 1, 0, 0]))
    assert set(values) == set(METRICS)
    assert values.pop("i_fpr").value == 0.0
    undefined = values.pop("released/aupro_30")  # the released formula divides by the spread of an empty axis
    assert undefined.value is None
    assert [value.value for value in values.values()] == pytest.approx([1.0] * len(values))
    assert values["i_f1max_threshold"].value == 1.0  # the lowest score of a defective image


@pytest.mark.parametrize(("labels", "reason"), [([0, 0], "no anomalous"), ([1, 1], "no normal")])
def test_undefined_metrics_have_a_reason_and_no_value(labels, reason):
    masks = np.ones((2, 8, 8), np.uint8)
    values = evaluated(np.random.default_rng(0).random((2, 4, 4), np.float32), masks, np.array(labels))
    assert values["i_auroc"].value is None
    assert reason in values["i_auroc"].reason
    assert values["strict/p_auroc"].value is None


def test_constant_maps_and_scores_that_are_not_finite():
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[0, 2:4] = 1
    labels = np.array([1, 0])
    assert evaluated(np.ones((2, 4, 4), np.float32), masks, labels)["strict/p_auroc"].value == 0.5
    values = evaluated(np.full((2, 4, 4), np.nan, np.float32), masks, labels)
    assert values.pop("i_fpr").value == 0.0  # of the model's threshold, which no score is above
    assert {value.reason for value in values.values()} == {"scores are not finite"}


def scene(images: int = 7, size: int = 24):
    generator = np.random.default_rng(0)
    masks = np.zeros((images, size, size), np.uint8)
    for number in range(0, images, 2):
        masks[number, 3 : 5 + number, 4:12] = 1
        masks[number, 18:20, 18:21] = 1
    patch_scores = generator.integers(0, 9, (images, 6, 6)).astype(np.float32)
    return patch_scores, masks, np.arange(images) % 2 == 0


def test_parts_give_what_the_whole_gives(monkeypatch):
    patch_scores, masks, labels = scene()
    whole = evaluated(patch_scores, masks, labels.astype(int))
    for images in (1, 3):
        monkeypatch.setattr("foundad.metrics.pixels.PIXELS_AT_ONCE", images * 24 * 24)
        parts = evaluated(patch_scores, masks, labels.astype(int))
        for metric, value in whole.items():
            assert parts[metric].value == pytest.approx(value.value, abs=1e-12), metric


@pytest.mark.parametrize("smoothing", [0.0, 1.5])
@pytest.mark.parametrize(
    "device",
    [
        "cpu:0",  # torch on the CPU: all of the device's code without a device
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")],
        ),
    ],
)
def test_a_device_gives_the_same_numbers(device, smoothing, monkeypatch):
    monkeypatch.setattr("foundad.metrics.pixels.PIXELS_AT_ONCE", 3 * 24 * 24)
    generator = np.random.default_rng(0)
    _, masks, labels = scene()
    patch_scores = generator.normal(size=(7, 6, 6)).astype(np.float32)
    given = category(patch_scores, masks, labels, smoothing=smoothing)
    expected = {value.metric: value.value for value in evaluate_category(given)}
    found = {value.metric: value.value for value in evaluate_category(replace(given, device=device))}
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_order_of_images_changes_nothing():
    patch_scores, masks, labels = scene()
    order_of_images = np.random.default_rng(1).permutation(len(labels))
    before = evaluated(patch_scores, masks, labels.astype(int))
    after = evaluated(patch_scores[order_of_images], masks[order_of_images], labels[order_of_images].astype(int))
    for metric, value in before.items():
        assert after[metric].value == pytest.approx(value.value, abs=1e-12), metric


def test_smoothing_is_a_gaussian_over_the_maps():
    patch_scores, masks, labels = scene()
    values = evaluate_category(category(patch_scores, masks, labels, smoothing=2.0))
    maps = np.stack([ndimage.gaussian_filter(image, 2.0) for image in upsample(patch_scores, (24, 24))])
    found = {value.metric: value.value for value in values}
    assert found["strict/p_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)


def naive_aupimo(masks, maps, bounds):
    """Recall against the rate on normal images at every distinct score, averaged over the logarithm on a fine grid."""
    normal = maps[~masks.any(axis=(1, 2))].ravel()
    levels = np.exp(np.linspace(*np.log(bounds), 4001))
    recalls = []
    for image, mask in zip(maps, masks, strict=True):
        if not mask.any():
            continue
        points = [(0.0, float((image[mask > 0] > normal.max()).mean()))]
        for threshold in np.unique(maps)[::-1]:
            points.append(((normal >= threshold).mean(), float((image[mask > 0] >= threshold).mean())))
        rates = np.array([rate for rate, _ in points])
        heights = np.array([recall for _, recall in points])
        found = []
        for level in levels:
            left = np.flatnonzero(rates <= level)[-1]
            if left + 1 == len(rates) or rates[left] == 0:
                found.append(heights[left])
                continue
            share = np.log(level / rates[left]) / np.log(rates[left + 1] / rates[left])
            found.append(heights[left] + share * (heights[left + 1] - heights[left]))
        recalls.append(np.trapezoid(found, dx=1 / 4000))
    return np.mean(recalls)


@pytest.mark.parametrize("bounds", [(0.01, 0.2), (1e-5, 1e-3), (0.3, 1.0)])
def test_aupimo_equals_a_naive_oracle(bounds):
    _, masks, _ = scene()
    maps = np.random.default_rng(2).integers(0, 40, masks.shape).astype(np.float32) + 8 * masks
    found = aupimo(pixels_of(masks, maps), bounds)
    assert found == pytest.approx(naive_aupimo(masks, maps, bounds), abs=2e-3)


def test_without_masks_there_are_no_pixel_metrics():
    values = evaluate_category(Category(np.array([1.0, 0.0]), np.array([1, 0]), np.zeros((2, 4, 4)), None))
    assert {value.metric for value in values} == {"i_auroc", "i_ap", "i_f1max", "i_f1max_threshold", "i_fpr"}


def test_every_entry_has_its_words_and_a_function_that_says_what_it_is():
    for name, metric in METRICS.items():
        function = getattr(importlib.import_module(metric.module), metric.function.partition(":")[2])
        assert name == metric.id
        assert metric.name
        assert metric.definition
        assert metric.source
        assert metric.unit in ("share", "score")
        assert function.__doc__


def test_the_protocols_of_ids_are_those_that_masks_are_made_for():
    patch_scores, masks, labels = scene()
    assert list(category(patch_scores, masks, labels).defects.regions) == list(PROTOCOLS)
    assert {metric.protocol for metric in METRICS.values()} == {"", *PROTOCOLS}
    assert MAIN == ("i_auroc", "strict/p_auroc", "strict/aupro_30")


def test_without_an_order_of_images_the_threshold_of_the_largest_f1_has_no_row():
    masks = np.ones((2, 8, 8), np.uint8)
    values = evaluated(np.zeros((2, 4, 4), np.float32), masks, np.array([0, 0]))
    assert values["i_f1max"].reason == "no anomalous image"
    assert "i_f1max_threshold" not in values


def test_entries_name_what_computes_and_import_nothing_of_it():
    code = "import sys, foundad.metrics.registry; print([m for m in ('numpy', 'scipy', 'torch', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("function", ["foundad.metrics.nowhere:f", "foundad.metrics.pro:aupro_31", "nothing", ""])
def test_an_entry_that_names_no_function_is_one_line(function):
    with pytest.raises(UserError, match=r"metric x: cannot load its function .*; mend key function") as raised:
        Metric("x", "X", "what", "whose", function).compute(None)
    assert len(str(raised.value).splitlines()) == 1


# ---------------------------------------------------------------------------------------------------- parts of it


@given(hnp.arrays(np.uint8, (3, 6, 7), elements=st.integers(0, 3)), st.booleans())
def test_regions_of_runs_are_those_of_scipy(pictures, corners):
    found = defects_of(pictures, (6, 7), corners)
    structure = np.ones((3, 3)) if corners else None
    for bit, protocol in enumerate(PROTOCOLS):
        before = 0
        for number, picture in enumerate(pictures):
            labels, count = ndimage.label(picture >> bit & 1, structure)
            runs = slice(*found.offsets[number : number + 2])
            painted = np.zeros(picture.size, int)
            painted[found.pixels(number)] = np.repeat(found.regions[protocol][runs], found.lengths[runs])
            np.testing.assert_array_equal(painted.reshape(picture.shape), np.where(labels, labels + before, 0))
            np.testing.assert_array_equal(found.mask(number, protocol), picture >> bit & 1)
            before += count


@given(hnp.arrays(np.uint8, (4, 5), elements=st.integers(0, 2)))
def test_runs_are_the_picture(picture):
    runs = runs_of(picture)
    painted = np.zeros(picture.size, np.uint8)
    for start, length, value in zip(*runs, strict=True):
        assert start // 5 == (start + length - 1) // 5
        painted[start : start + length] = value
    np.testing.assert_array_equal(painted.reshape(picture.shape), picture)


def test_defects_of_some_images_are_those_of_these_images():
    masks = np.random.default_rng(3).integers(0, 2, (5, 9, 9), np.uint8)
    masks[2] = 0
    whole = find_defects([*masks[:3], None, *masks[3:]], (6, 6))
    chosen = np.array([5, 3, 2, 0])
    part, alone = whole.of(chosen), find_defects([masks[4], None, masks[2], masks[0]], (6, 6))
    for number in range(4):
        for protocol in PROTOCOLS:
            np.testing.assert_array_equal(part.mask(number, protocol), alone.mask(number, protocol))
    np.testing.assert_array_equal(part.soft, alone.soft)


def test_the_file_of_masks_gives_them_back_and_is_of_these_images(tmp_path):
    masks = np.random.default_rng(5).integers(0, 2, (2, 12, 9), np.uint8)
    found, path = find_defects([masks[0], None, masks[1]], (8, 8)), tmp_path / "masks.safetensors"
    write_defects(path, found, ["a", "b", "c"], True, "key")
    read = read_defects(path, ["a", "b", "c"], "key")
    assert read.size == found.size
    assert list(read.regions) == list(PROTOCOLS)
    for number in range(3):
        for protocol in PROTOCOLS:
            np.testing.assert_array_equal(read.mask(number, protocol), found.mask(number, protocol))
    np.testing.assert_array_equal(read.soft, found.soft)
    with pytest.raises(BrokenFile, match="not the images of the manifest"):
        read_defects(path, ["a", "c", "b"], "key")
    with pytest.raises(BrokenFile, match="is of another config"):
        read_defects(path, ["a", "b", "c"], "yek")
    write_defects(path, found.of(np.array([0, 1])), ["a", "b", "c"], True)
    with pytest.raises(BrokenFile, match="does not have the masks of 3 images"):
        read_defects(path, ["a", "b", "c"])
    write_defects(path, find_defects([None, None], (8, 8)), ["a", "b"], False)
    assert read_defects(path, ["a", "b"]) is None


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float32, st.integers(1, 40), elements=floats), st.data())
def test_scores_and_values_are_sorted_together(scores, data):
    values = data.draw(hnp.arrays(np.uint32, len(scores)))
    found, beside = sort_with(scores, values)
    order_of_both = np.lexsort((values, scores + np.float32(0)))
    np.testing.assert_array_equal(found, scores[order_of_both])
    np.testing.assert_array_equal(beside, values[order_of_both])


@given(
    hnp.arrays(np.float32, st.integers(1, 30), elements=floats),
    hnp.arrays(np.float64, 6, elements=st.floats(-3e38, 3e38)),
)
def test_a_score_passes_a_level_that_is_lower(scores, levels):
    levels = np.concatenate([levels, scores[:3].astype(np.float64)])
    found = passing(levels, [np.sort(scores[::2]), np.sort(scores[1::2])])
    assert found.tolist() == [int((scores.astype(np.float64) > level).sum()) for level in levels]


@given(hnp.arrays(np.float32, 30, elements=st.floats(-9, 9, width=32)))
def test_thresholds_below_scores_are_counted(scores):
    thresholds = np.linspace(float(scores.min()), float(scores.max()), 20)
    expected = (thresholds < scores.astype(np.float64)[:, None]).sum(axis=1)
    if thresholds[0] < thresholds[-1]:
        np.testing.assert_array_equal(thresholds_below(scores, thresholds), expected)


def test_pieces_give_what_the_whole_gives(monkeypatch):
    """Scores with many ties, in pieces of three."""
    generator = np.random.default_rng(4)
    maps = generator.integers(-20, 20, (4, 16, 16)).astype(np.float32) / 8
    masks = generator.integers(0, 2, maps.shape, np.uint8)
    whole = pixels_of(masks, maps)
    expected = [aupro(whole, 0.3), *(metric(whole.ordering) for metric in (auroc, average_precision, f1_max))]
    monkeypatch.setattr("foundad.metrics.ranking.PIECE", 3)
    pieces = pixels_of(masks, maps)
    found = [aupro(pieces, 0.3), *(metric(pieces.ordering) for metric in (auroc, average_precision, f1_max))]
    assert found[0] == pytest.approx(expected[0], abs=1e-14)
    assert found[1:] == expected[1:]
