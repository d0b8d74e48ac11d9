"""The files of a bank: class tokens of its pictures come from the pass of the patch tokens, into a file of their own."""

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_ENCODER, picture, save

from foundad.config.bank import Bank
from foundad.config.encoder import Encoder
from foundad.data.draws import Draw
from foundad.data.images import load_image
from foundad.detection.bank import BankTokens
from foundad.device import Compute
from foundad.encoders.base import FrozenEncoder, to_input
from foundad.errors import BrokenFile
from foundad.pairs.encoder import PairEncoder, build_bank, drawn_images, left_by_another
from foundad.paths import CLASS, PATCH, Array

TINY = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
BANK = Bank(pairs=7, flips=["vertical"], queries=["clamp"])


@pytest.fixture
def maker(tmp_path: Path) -> PairEncoder:
    names = [save(picture(number)[0], tmp_path / f"{number}.png").name for number in range(3)]
    draw = Draw("drawn", 3, 0, ["a", "b", "a"], names, names, names)
    return PairEncoder(draw, drawn_images(draw, tmp_path), BANK, TINY, Compute(batch_size=4))


def files(folder: Path) -> tuple[Array, Array]:
    folder.mkdir(exist_ok=True)
    return Array(folder / "k.safetensors", PATCH, "aa"), Array(folder / "k.class.safetensors", CLASS, "cc")


def loaded(arrays: tuple[Array, Array]) -> BankTokens:
    bank, _ = BankTokens.load(arrays[0].path, key="aa")
    return bank.with_array(CLASS, arrays[1].path, key="cc")


def test_class_tokens_of_a_bank_are_left_for_their_own_job(maker, tmp_path):
    patch, described = files(tmp_path / "both")
    build_bank(maker, [patch, described])
    assert not described.path.exists()
    assert not left_by_another(described._replace(key="dd"))  # of another key
    assert left_by_another(described)
    assert [path.name for path in sorted(patch.path.parent.iterdir())] == ["k.class.safetensors", "k.safetensors"]
    for number, alone in enumerate(files(tmp_path / "alone")):
        build_bank(maker, [alone])
        assert alone.path.read_bytes() == (patch, described)[number].path.read_bytes()


def test_a_bank_says_of_every_picture_what_the_encoder_says(maker, tmp_path, monkeypatch):
    arrays = files(tmp_path / "both")
    build_bank(maker, arrays)
    build_bank(maker, arrays[1:])
    bank = loaded(arrays)
    drawn = [load_image(tmp_path / f"{number}.png") for number in range(3)]
    pixels = np.stack([to_input(image, TINY) for image in drawn])
    encoder = maker.encoder
    expected = encoder.named(encoder.normalise(pixels), (CLASS,))[CLASS].numpy()
    np.testing.assert_allclose(bank.array_of_normal(CLASS)[:3], expected, rtol=2e-3, atol=2e-3)
    assert bank.array_of_normal(CLASS).shape == (6, 1280)  # each drawn image and its flip
    assert bank.calibration().arrays[CLASS].shape == (7, 1280)

    clamped = bank.under("clamp")
    expected = encoder.named(encoder.normalise(pixels).clamp(min=0), (CLASS,))[CLASS].numpy()
    np.testing.assert_allclose(clamped.array_of_normal(CLASS)[:3], expected, rtol=2e-3, atol=2e-3)
    assert np.abs(clamped.calibration().arrays[CLASS] - bank.calibration().arrays[CLASS]).max() > 0.01
    part = bank.of("a")
    np.testing.assert_array_equal(part.array_of_normal(CLASS), bank.array_of_normal(CLASS)[[0, 2, 3, 5]])
    assert len(part.calibration().arrays[CLASS]) == len(part.calibration().tokens) == 5


def test_one_pass_makes_both_files(maker, tmp_path, monkeypatch):
    encoded = []
    encode = FrozenEncoder.in_memory

    def count(self, images, names):
        encoded.append((len(images), names))
        return encode(self, images, names)

    monkeypatch.setattr(FrozenEncoder, "in_memory", count)
    build_bank(maker, files(tmp_path / "both"))
    assert sum(number for number, _ in encoded) == BANK.passes(3)
    assert {tuple(names) for _, names in encoded} == {(PATCH, CLASS)}


def test_class_tokens_of_another_draw_are_refused(maker, tmp_path):
    arrays = files(tmp_path / "both")
    build_bank(maker, arrays)
    build_bank(maker, arrays[1:])
    bank, _ = BankTokens.load(arrays[0].path)
    other = Draw("drawn", 3, 1, *([maker.draw.categories] + [maker.draw.image_ids] * 3))
    with pytest.raises(BrokenFile, match=r"k\.class\.safetensors: is the bank of drawn/tiny/k3-s0"):
        bank.with_array(CLASS, arrays[1].path, (other, "tiny"))
    with pytest.raises(BrokenFile, match="has not one row for each of its images"):
        bank.of("a").with_array(CLASS, arrays[1].path)
    with pytest.raises(BrokenFile, match="of another config"):
        bank.with_array(CLASS, arrays[1].path, key="other")
