"""The projector, its training step and its scores against arrays that the reference implementation produced."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from foundad.detection.shared.training import AdamW, drop_features, learning_rate, pair_batches
from foundad.detection.shared.training_settings import Training
from foundad.method.detector import projection_loss
from foundad.method.projector import Projector, attention, patch_residuals
from foundad.method.settings import Projector as Settings
from foundad.method.settings import default_width
from foundad.metrics.maps import upsample

GOLDEN = Path(__file__).parent.parent / "golden"
SMALL = np.load(GOLDEN / "projector_small.npz")
STEPS = np.load(GOLDEN / "train_steps.npz")
FULL = json.loads((GOLDEN / "projector_full.json").read_text())

NAMES = {
    "predictor_embed": "embed",
    "predictor_blocks": "blocks",
    "predictor_norm": "norm",
    "predictor_proj": "head",
    "predictor_pos_embed": "position_embedding",
}


def ours(name: str) -> str:
    """Our state-dict key for the reference's."""
    head, dot, rest = name.partition(".")
    return NAMES[head] + dot + rest


def stored(prefix: str, arrays=SMALL) -> dict[str, torch.Tensor]:
    """Arrays below ``prefix`` under our names; the reference's mask token is saved but never used."""
    found = {key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)}
    return {ours(key): torch.from_numpy(value) for key, value in found.items() if key != "mask_token"}


def projector(tag: str) -> Projector:
    settings = Settings(depth=3, width=24, heads=12, position_embedding=tag == "pe")
    module = Projector(48, 16, settings, normalise=tag == "normed")
    module.load_state_dict(stored(f"{tag}/state/"))
    return module


@pytest.mark.parametrize("tag", ["base", "pe", "normed"])
def test_outputs_and_gradients_equal_the_reference(tag):
    module = projector(tag)
    tokens = torch.from_numpy(SMALL["input"]).requires_grad_()
    output = module(tokens)
    np.testing.assert_allclose(output.detach(), SMALL[f"{tag}/output"], atol=1e-5)
    loss = projection_loss(output, torch.from_numpy(SMALL["target"]), "l2")
    np.testing.assert_allclose(loss.item(), SMALL[f"{tag}/loss"], atol=1e-6)
    loss.backward()
    np.testing.assert_allclose(tokens.grad, SMALL[f"{tag}/grad_input"], atol=1e-6)
    for name, gradient in stored(f"{tag}/grad/").items():
        np.testing.assert_allclose(module.get_parameter(name).grad, gradient, atol=1e-6, err_msg=name)
    exact = module.double()(tokens.detach().double())
    np.testing.assert_allclose(exact.detach(), SMALL[f"{tag}/output_f64"], atol=1e-12)


@pytest.mark.parametrize("run", ["l2", "smooth_l1", "l2_pe"])
@pytest.mark.parametrize("double", [False, True])
def test_twenty_training_steps_equal_the_reference(run, double):
    module = projector("pe" if run == "l2_pe" else "base")
    suffix = "_f64" if double else ""
    dtype = torch.float64 if double else torch.float32
    module.to(dtype)
    training = Training(steps=20, loss="smooth-l1" if run == "smooth_l1" else "l2")
    optimiser = AdamW(module.parameters(), training.weight_decay)
    targets, inputs = (torch.from_numpy(STEPS[key]).to(dtype) for key in "hz")
    losses = []
    for step in range(20):
        loss = projection_loss(module(inputs[step % 4]), targets[step % 4], training.loss)
        losses.append(loss.item())
        loss.backward()
        optimiser.step(training.learning_rate)
        if step == 0 and not double:
            assert_weights(module, stored(f"{run}/after1/", STEPS), atol=1e-6)
    np.testing.assert_allclose(losses, STEPS[f"{run}{suffix}/losses"], atol=1e-10 if double else 1e-5)
    assert_weights(module, stored(f"{run}{suffix}/final/", STEPS), atol=1e-9 if double else 1e-4)


def assert_weights(module: Projector, expected: dict[str, torch.Tensor], atol: float) -> None:
    for name, weights in expected.items():
        found = module.get_parameter(name).detach()
        if name.endswith("attn.qkv.bias") and found.dtype == torch.float32:
            # The keys' bias has no gradient in theory: AdamW blows the rounding noise up to whole steps.
            found, weights = (torch.cat([bias[:24], bias[48:]]) for bias in (found, weights))
        np.testing.assert_allclose(found, weights, atol=atol, err_msg=name)


def test_dropped_features_equal_the_reference():
    tokens, reference = (torch.from_numpy(SMALL[key]) for key in ("input", "dropout/dropped_input"))
    dropped = drop_features(tokens, 0.2, torch.Generator().manual_seed(0))
    both = (dropped != 0) & torch.from_numpy(SMALL["dropout/kept"])
    assert both.float().mean().item() == pytest.approx(0.8**2, abs=0.05)
    np.testing.assert_allclose(dropped[both], reference[both], rtol=1e-6)
    np.testing.assert_allclose(projector("base")(reference).detach(), SMALL["dropout/output"], atol=1e-5)


@pytest.mark.parametrize(("depth", "count"), [(4, 7_689_984), (6, 11_238_912), (8, 14_787_840)])
def test_parameter_counts_are_those_published(depth, count):
    module = Projector(768, 1024, Settings(depth=depth))
    # The reference counts its unused mask token of 384.
    assert sum(parameter.numel() for parameter in module.parameters()) + 384 == count


def test_initial_weights_are_truncated_normal():
    module = Projector(768, 16, Settings(depth=2), generator=torch.Generator().manual_seed(0))
    weights = module.blocks[0].mlp.fc1.weight
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert module.head.bias.abs().max() == 0
    again = Projector(768, 16, Settings(depth=2), generator=torch.Generator().manual_seed(0))
    assert torch.equal(weights, again.blocks[0].mlp.fc1.weight)


@pytest.mark.parametrize(("channels", "width"), [(768, 384), (1024, 512), (384, 192), (152, 64), (40, 32)])
def test_the_default_width_is_half_the_channels(channels, width):
    assert default_width(channels) == width


@pytest.mark.parametrize("kind", ["vit", "mlp"])
@pytest.mark.parametrize("depth", [1, 6, 8])
def test_projectors_of_any_type_and_depth_keep_the_shape(kind, depth):
    tokens = torch.randn(2, 9, 40)
    module = Projector(40, 9, Settings(type=kind, depth=depth))
    assert module(tokens).shape == tokens.shape
    assert hasattr(module.blocks[0], "attn") == (kind == "vit")


def test_residuals_and_maps_equal_the_reference():
    arrays = np.load(GOLDEN / "scoring.npz")
    tokens, predicted = (torch.from_numpy(arrays[key].astype(np.float32)) for key in ("enc", "pred"))
    residuals = patch_residuals(predicted, tokens).numpy()
    np.testing.assert_allclose(residuals, arrays["residual"], atol=1e-6)
    top = np.sort(residuals, axis=1)
    np.testing.assert_allclose(top[:, -10:].mean(1), arrays["score_top10"], atol=1e-6)
    np.testing.assert_allclose(top[:, -6:].mean(1), arrays["score_top6"], atol=1e-6)
    maps = upsample(residuals.reshape(4, 32, 32), (512, 512))
    np.testing.assert_allclose(maps[:, 4::8, 4::8], arrays["map_sub"], atol=1e-6)
    np.testing.assert_allclose(maps[:, 0], arrays["map_row0"], atol=1e-6)
    np.testing.assert_allclose(maps[:, :, 511], arrays["map_col511"], atol=1e-6)
    np.testing.assert_allclose(maps[:, 255], arrays["map_row255"], atol=1e-6)
    np.testing.assert_allclose(maps.sum(axis=(1, 2), dtype=np.float64), arrays["map_sum"], rtol=1e-6)
    highest = [np.unravel_index(image.argmax(), image.shape) for image in maps]
    np.testing.assert_array_equal(highest, arrays["map_argmax"])


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("const", "constant"), ("step", "step"), ("cosine", "cosine"), ("cosine_warmup", "cosine-warmup")],
)
def test_schedules_equal_the_reference(name, schedule):
    training = Training(schedule=schedule, step_length=15, warmup=8)
    rates = [learning_rate(step, 40, training) for step in range(40)]
    np.testing.assert_allclose(rates, STEPS[f"lr/{name}"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("images", "steps"), [(15, 2000), (30, 6000), (60, 14000), (12, 2000), (48, 12000), (7, 0)])
def test_epochs_count_as_in_the_released_code(images, steps):
    assert Training(steps=None, epochs=2000).budget(images) == steps
    assert Training(steps=300).budget(images) == 300


def batches(gate: str, sigma: float, count: int):
    training = Training(gate=gate, synthetic_probability=sigma)
    source = pair_batches(20, training, torch.Generator().manual_seed(0))
    return [next(source) for _ in range(count)]


def test_every_pair_is_seen_before_any_is_seen_again():
    drawn = torch.cat([pairs for pairs, _ in batches("image", 0.5, 5)]).tolist()
    assert sorted(drawn[:20]) == sorted(drawn[20:]) == list(range(20))


def test_drop_last_leaves_out_what_fills_no_batch():
    source = pair_batches(20, Training(order="drop-last"), torch.Generator().manual_seed(0))
    epochs = [torch.cat([next(source)[0], next(source)[0]]).tolist() for _ in range(2)]
    assert all(len(set(epoch)) == 16 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_the_gate_tosses_one_coin_an_image_or_a_batch():
    shares = torch.stack([damaged.float() for _, damaged in batches("image", 0.5, 400)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.05)
    assert shares.std(dim=1).max() > 0
    shared = torch.stack([damaged.float() for _, damaged in batches("batch", 0.5, 400)])
    assert shared.std(dim=1).max() == 0
    assert all(damaged.all() for _, damaged in batches("image", 1.0, 3))


def test_dropout_keeps_the_mean():
    tokens = torch.ones(4, 100, 50)
    dropped = drop_features(tokens, 0.2, torch.Generator().manual_seed(0))
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert drop_features(tokens, 0.0, torch.Generator()) is tokens


def test_smooth_l1_is_torchs():
    a, b = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert projection_loss(a, b, "smooth-l1") == F.smooth_l1_loss(a, b)


def test_attention_in_bfloat16_is_that_of_float32():
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(2, 3, 50, 32, generator=generator).requires_grad_() for _ in range(3)]
    rounded = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    for tensors in (exact, rounded):
        attention(*tensors).float().square().mean().backward()
    torch.testing.assert_close(attention(*rounded).float(), attention(*exact), rtol=0, atol=0.02)
    inside = torch.arange(exact[0].shape[2]) < 25
    alone = attention(exact[0], *(tensor[:, :, inside] for tensor in exact[1:]))
    both = inside.expand(len(exact[0]), -1)
    torch.testing.assert_close(attention(*exact, both), alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(attention(*rounded, both).float(), alone, rtol=0, atol=0.02)
    for found, expected in zip(rounded, exact, strict=True):
        torch.testing.assert_close(
            found.grad.float(), expected.grad, rtol=0, atol=0.02 * expected.grad.abs().max().item()
        )
