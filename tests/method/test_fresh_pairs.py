"""Training as published, with fresh pairs at every step: against the bank, and against a plain loop."""

from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY_ENCODER, picture, save

from foundad.config.bank import Bank
from foundad.config.encoder import Encoder
from foundad.data.draws import Draw
from foundad.detection.bank import BankTokens, FreshPairs, Preparation
from foundad.detection.shared import training as trainer
from foundad.detection.shared.training import pair_batches
from foundad.errors import UserError
from foundad.method.detector import Detector
from foundad.method.projector import Projector
from foundad.method.settings import Settings
from foundad.pairs.encoder import PairEncoder, drawn_images

RELEASED_SYNTHESIS = {
    "foreground": "by-category",
    "placement": "corner",
    "jitter_space": "normalised",
    "scar_corners": "pasted",
}
DINOV3 = {
    "model": "vit_small_patch16_dinov3",
    "channels": 384,
    "features": {"kind": "blocks", "patch": 16, "depth": 12, "layer": 3, "norm": True},
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "tokens": "raw",
}


def drawn(folder, images: int) -> Draw:
    """``images`` pictures of as many categories that the released code knows."""
    names = ["carpet", "leather", "tile", "wood", "cable", "pill", "hazelnut", "bottle", "screw", "grid"] * 2
    paths = [save(picture(n)[0], folder / f"{n}.png").name for n in range(images)]
    return Draw("drawn", 1, 0, names[:images], paths, paths, paths)


def fresh_bank(folder, images: int, encoder: Encoder, settings: Bank) -> BankTokens:
    draw = drawn(folder, images)
    maker = PairEncoder(draw, drawn_images(draw, folder), settings, encoder)
    normal = np.concatenate([tokens["patch"] for tokens in maker.normal(8)])
    none = normal[:0]
    fresh = FreshPairs(maker.pairs, list(range(images)))
    bank = BankTokens(normal, draw.categories, none, none, [], fresh)
    return bank.prepared(Preparation.of(encoder.tokens, normal))


def settings_of(**training) -> Settings:
    values = {"id": "released", "title": "Released", "projector": {"depth": 2, "width": 32}}
    return Settings.model_validate(values | {"training": {"pairs": "fresh", **training}})


def test_a_bank_of_the_very_batches_trains_the_same_projector(tmp_path, monkeypatch):
    encoder = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
    bank = fresh_bank(tmp_path, 5, encoder, Bank())
    training = {"steps": 6, "batch_size": 4, "feature_dropout": 0.0}
    method = settings_of(**training)
    fresh = Detector(method, seed=3)
    losses = fresh.fit(bank)["losses"]

    # The same batches once more, every input damaged and then gated by the same coins.
    generator = torch.Generator().manual_seed(4)
    batches = list(islice(pair_batches(5, method.training, generator), 6))
    images = torch.cat([batch for batch, _ in batches]).tolist()
    clean, synthetic, _ = bank.fresh.encode(images, range(24), [True] * 24)
    stored = BankTokens(bank.normal, bank.normal_categories, clean, synthetic, ["carpet"] * 24)
    in_order = [(torch.arange(4) + 4 * step, damaged) for step, (_, damaged) in enumerate(batches)]
    monkeypatch.setattr(trainer, "pair_batches", lambda *_: iter(in_order))
    banked = Detector(settings_of(**training | {"pairs": "bank"}), seed=3)
    np.testing.assert_allclose(banked.fit(stored)["losses"], losses, atol=1e-6)
    np.testing.assert_allclose(banked.score(bank.normal), fresh.score(bank.normal), rtol=1e-4)


def test_the_released_losses_equal_a_plain_recomputation(tmp_path):
    encoder = Encoder.model_validate(TINY_ENCODER | DINOV3 | {"id": "dinov3"})
    bank = fresh_bank(tmp_path, 15, encoder, Bank.model_validate({"synthesis": RELEASED_SYNTHESIS}))
    method = settings_of(steps=None, epochs=20, gate="batch", order="drop-last")
    detector = Detector(method, seed=0)
    record = detector.fit(bank)
    assert record["steps"] == len(record["losses"]) == 20

    projector = Projector(384, 16, method.projector, generator=torch.Generator().manual_seed(0)).train()
    optimiser = torch.optim.AdamW(projector.parameters(), lr=1e-3, weight_decay=1e-4)
    generator, dropout = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    losses = []
    for step in range(20):
        images = torch.randperm(15, generator=generator)[:8].tolist()
        damaged = bool(torch.rand(1, generator=generator) < 0.5)
        clean, inputs, _ = bank.fresh.encode(images, range(8 * step, 8 * step + 8), [damaged] * 8)
        assert damaged != np.array_equal(clean, inputs)
        kept = torch.rand(inputs.shape, generator=dropout) >= 0.2
        loss = F.mse_loss(projector(torch.from_numpy(inputs) * kept / 0.8), torch.from_numpy(clean))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    np.testing.assert_allclose(record["losses"], losses, atol=2e-6)


def test_pictures_depend_on_the_pair_alone(tmp_path):
    encoder = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
    bank = fresh_bank(tmp_path, 3, encoder, Bank())
    clean, inputs, _ = bank.fresh.encode([0, 1, 2], [7, 8, 9], [True, False, True])
    np.testing.assert_array_equal(inputs[1], clean[1])
    assert (inputs[[0, 2]] != clean[[0, 2]]).any(axis=(1, 2)).all()
    alone, damaged, _ = bank.fresh.encode([2], [9], [True])
    np.testing.assert_allclose(alone[0], clean[2], atol=2e-3)
    np.testing.assert_allclose(damaged[0], inputs[2], atol=2e-3)
    part = bank.of("leather")
    np.testing.assert_allclose(part.fresh.encode([0], [8], [False])[0][0], clean[1], atol=2e-3)


def test_images_that_fill_no_batch_are_an_error_in_one_line(tmp_path):
    encoder = Encoder.model_validate(TINY_ENCODER | {"id": "tiny"})
    bank = fresh_bank(tmp_path, 3, encoder, Bank())
    for training in ({"steps": None, "epochs": 2000}, {"steps": 5, "order": "drop-last"}):
        with pytest.raises(UserError, match=r"released.yaml: 3 drawn images fill no batch of 8"):
            Detector(settings_of(**training), seed=0).fit(bank)
