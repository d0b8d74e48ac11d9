"""CutPaste, foreground and augmentation: what changes, where, and that everything flows from the generator."""

import numpy as np
import pytest
import skimage.data
import torch
from conftest import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import morphology
from skimage.filters import threshold_otsu
from torchvision.transforms import functional as transforms

from foundad.config.bank import Augmentation, Synthesis
from foundad.pairs.augmentation import augment
from foundad.pairs.cutpaste import CutPaste, colour_jitter
from foundad.pairs.foreground import closed, foreground_mask, opened, otsu_threshold

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalised(pixels: np.ndarray) -> torch.Tensor:
    unit = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    return (unit - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def paste(images: torch.Tensor, seed: int = 0, **changes):
    generators = [np.random.default_rng([seed, n]) for n in range(len(images))]
    return CutPaste(Synthesis(**changes), MEAN, STD)(images, generators)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(32, 90), st.integers(32, 90), st.booleans())
def test_only_the_mask_changes_and_everything_is_finite(seed, height, width, whole):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    image = normalised(pixels)
    damaged, mask = paste(image, seed, foreground="whole" if whole else "adaptive")
    assert torch.isfinite(damaged).all()
    assert mask.any()
    changed = (damaged != image).any(dim=1)
    assert not (changed & ~mask).any()
    again, _ = paste(image, seed, foreground="whole" if whole else "adaptive")
    assert torch.equal(damaged, again)


def test_neither_batch_nor_order_changes_an_anomaly():
    images = torch.cat([normalised(picture(n, 64)[0]) for n in range(3)])
    together, _ = paste(images)
    alone = CutPaste(Synthesis(), MEAN, STD)(images[2:], [np.random.default_rng([0, 2])])[0]
    assert torch.equal(together[2:], alone)


def test_large_pieces_and_scars_have_the_published_sizes():
    images = normalised(picture(0, 128)[0]).expand(60, -1, -1, -1)
    shares = paste(images, normal_probability=1.0, foreground="whole")[1].float().mean(dim=(1, 2))
    assert shares.min() > 0.015
    assert shares.max() < 0.26
    areas = paste(images, normal_probability=0.0, foreground="whole")[1].sum(dim=(1, 2))
    assert areas.min() >= 10
    assert areas.max() <= 16 * 25 * 1.2


@pytest.mark.parametrize(("ground", "thing"), [(20, 220), (230, 60)])
def test_objects_of_either_polarity_are_found_and_hit(ground, thing):
    pixels = np.full((96, 96, 3), ground, np.uint8) + np.random.default_rng(0).integers(0, 8, (96, 96, 1), np.uint8)
    pixels[30:70, 24:64] = thing
    mask = foreground_mask(pixels / 255)
    truth = np.zeros((96, 96), bool)
    truth[30:70, 24:64] = True
    assert (mask == truth).mean() > 0.98
    images = normalised(pixels).expand(20, -1, -1, -1)
    _, pasted = paste(images, normal_probability=0.0)
    assert all(truth[hit.numpy()].mean() >= 0.3 for hit in pasted)


@pytest.mark.parametrize("name", ["brick", "gravel", "grass"])
def test_a_texture_is_all_foreground(name):
    assert foreground_mask(np.stack([getattr(skimage.data, name)()] * 3, axis=2)).all()


def test_a_constant_picture_is_all_foreground():
    assert foreground_mask(np.zeros((40, 50, 3))).all()


def test_augmentation_is_deterministic_and_can_be_switched_off():
    image = Image.fromarray(picture(1, 60)[0]).resize((60, 40))
    off = Augmentation(geometric_probability=0, appearance_probability=0)
    assert augment(image, off, np.random.default_rng(0), 256) is image
    always = Augmentation(geometric_probability=1, appearance_probability=1)
    first, second = (augment(image, always, np.random.default_rng(5), 256) for _ in range(2))
    assert np.array_equal(first, second)
    sizes = {augment(image, always, np.random.default_rng(n), 256).size for n in range(30)}
    assert sizes == {(60, 40), (40, 60)}


def test_about_a_third_of_the_pictures_are_turned_or_flipped():
    image = Image.fromarray(picture(1, 32)[0])
    only = Augmentation(appearance_probability=0)
    changed = [not np.array_equal(augment(image, only, np.random.default_rng(n), 256), image) for n in range(400)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize(
    "only", ["horizontal_flip", "vertical_flip", "rotate_90", "colour_jitter", "greyscale", "blur"]
)
def test_every_operation_runs_alone(only):
    names = ("horizontal_flip", "vertical_flip", "rotate_90", "colour_jitter", "greyscale", "blur")
    keys = dict.fromkeys(names, False) | {only: True, "geometric_probability": 1, "appearance_probability": 1}
    image = Image.fromarray(picture(1, 48)[0])
    for size in (256, 512):
        changed = augment(image, Augmentation(**keys), np.random.default_rng(1), size)
        assert not np.array_equal(changed, image)
        assert changed.mode == "RGB"


@pytest.mark.parametrize("scale", [1.0, 4.7])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1)])
def test_the_colour_jitter_has_the_bits_of_torchvision(order, scale):
    piece = torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(0)) * scale - (scale - 1) / 2
    piece[:, 0] = piece[0, 0]  # greys
    piece[:2, 1] = piece[0, 1]  # two equal channels
    expected, factors = piece, (1.3, 0.6, 1.4, -0.37)
    for operation in order:
        adjust = (
            transforms.adjust_brightness,
            transforms.adjust_contrast,
            transforms.adjust_saturation,
            transforms.adjust_hue,
        )[operation]
        expected = adjust(expected, factors[operation])
    before = piece.clone()
    assert torch.equal(colour_jitter(piece, (order, *factors)), expected)
    assert torch.equal(piece, before)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(5, 30), st.integers(5, 30), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_morphology_is_that_of_scikit_image(side, height, width, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    square = np.ones((side, side), bool)
    np.testing.assert_array_equal(closed(mask, side), morphology.closing(mask, square))
    np.testing.assert_array_equal(opened(mask, side), morphology.opening(mask, square))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_otsu_is_that_of_scikit_image(low, high, seed):
    grey = np.random.default_rng(seed).integers(min(low, high), max(low, high) + 1, (20, 30), np.uint8)
    assert otsu_threshold(grey) == threshold_otsu(grey)
