"""The released code's synthesis and foreground, against arrays that it produced from the same random numbers."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from foundad.config.bank import Synthesis
from foundad.errors import UserError
from foundad.pairs.cutpaste import CutPaste, colour_jitter
from foundad.pairs.foreground import CATEGORY_RULES, category_mask

ARRAYS = np.load(Path(__file__).parent.parent / "golden/synthesis.npz")
RECORDS = json.loads(str(ARRAYS["records_json"]))
CLASSES = [str(name) for name in ARRAYS["classes"]]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Normalised: hue, and division by the deviation, multiply what another processor's fused multiply-add rounds otherwise.
ROUNDING = 5e-6
RELEASED = Synthesis(foreground="by-category", placement="corner", jitter_space="normalised", scar_corners="pasted")


class Replay:
    """Draws as the released code does: Python's generator for the geometry; ``kind`` decides what it did not toss."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def random(self) -> float:
        return random.random() if self.kind == "union" else float(self.kind == "scar")

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)

    def integers(self, low: int, high: int) -> int:
        return random.randint(low, high - 1)


class ReleasedCutPaste(CutPaste):
    """Jitters with torch's generator, and draws the two numbers that the released code throws away after a scar."""

    turned = False

    def jitter(self, generator):
        order = torch.randperm(4).tolist()
        factors = [float(torch.empty(1).uniform_(0.5, 1.5)) for _ in range(3)]
        return order, *factors, float(torch.empty(1).uniform_(-0.5, 0.5))

    def _scar(self, source, generator):
        self.turned = True
        return super()._scar(source, generator)

    def _place(self, foreground, height, width, generator):
        if self.turned:
            generator.integers(0, foreground.shape[1] - width + 1)
            generator.integers(0, foreground.shape[0] - height + 1)
        self.turned = False
        return super()._place(foreground, height, width, generator)


def replay(images: torch.Tensor, categories: list[str], seed: int, kind: str) -> torch.Tensor:
    random.seed(seed)
    torch.manual_seed(seed)
    paste = ReleasedCutPaste(RELEASED, MEAN, STD)
    damaged, changed = paste(images, [Replay(kind)] * len(images), categories)
    assert not ((damaged != images).any(dim=1) & ~changed).any()
    return damaged


@pytest.mark.parametrize("image", range(4))
@pytest.mark.parametrize("category", CLASSES)
def test_the_foreground_of_every_category(category, image):
    number = CLASSES.index(category)
    expected = np.unpackbits(ARRAYS["foreground"][image, number], axis=-1)[:, :96].astype(bool)
    np.testing.assert_array_equal(category_mask(ARRAYS["denormalised_u8"][image], category), expected)


@pytest.mark.parametrize("number", range(len(RECORDS)))
def test_single_images(number):
    record = RECORDS[number]
    image = torch.from_numpy(ARRAYS["normalised"][record["image"]])[None]
    damaged = replay(image, [record["class"]], record["seed"], record["kind"])[0]
    top, left, bottom, right = record["changed_box_y0_x0_y1_x1"]
    np.testing.assert_allclose(damaged[:, top:bottom, left:right], ARRAYS[f"case{number:02}"], atol=ROUNDING)
    outside = torch.ones(damaged.shape[1:], dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert torch.equal(damaged[:, outside], image[0][:, outside])
    assert random.random() == record["next_python_random"]
    assert torch.rand(1).item() == pytest.approx(record["next_torch_rand"], abs=1e-7)


def test_a_batch():
    images = torch.from_numpy(ARRAYS["normalised"])
    damaged = replay(images, ["hazelnut", "capsule", "carpet", "candle"], 77, "union")
    np.testing.assert_allclose(damaged, ARRAYS["batch_union_seed77"], atol=ROUNDING)


def test_the_colour_jitter_on_normalised_values():
    torch.manual_seed(3)
    jitter = ReleasedCutPaste(RELEASED, MEAN, STD).jitter(None)
    found = colour_jitter(torch.from_numpy(ARRAYS["jitter_seed3_in"]), jitter)
    np.testing.assert_allclose(found, ARRAYS["jitter_seed3_out"], atol=ROUNDING)
    assert found.min() >= 0  # all that was darker than the mean is lost


def test_a_category_without_a_rule_is_named():
    with pytest.raises(UserError, match=r"'bolt': .* set bank.synthesis.foreground"):
        category_mask(np.zeros((8, 8, 3), np.uint8), "bolt")
    for name in CATEGORY_RULES:
        assert category_mask(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8), name).shape == (32, 32)
