"""INP-Former and Dinomaly against their official code (golden arrays of benchmarks/parity_reconstruction.py), and plainly."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_methods import bank, encoder, scores, tokens
from torch.utils.flop_counter import FlopCounterMode

from baselines.dinomaly.detector import Detector as Dinomaly
from baselines.dinomaly.network import linear_attention
from baselines.dinomaly.settings import Settings as DinomalySettings
from baselines.inp_former.detector import Detector as InpFormer
from baselines.inp_former.network import coherence_loss
from baselines.inp_former.settings import Settings as InpFormerSettings
from baselines.reconstruction.keys import Reconstruction, width_of
from baselines.reconstruction.losses import hard_mining, mined_cosine_loss, soft_mining
from baselines.reconstruction.network import Groups
from baselines.reconstruction.scoring import smoothed
from foundad.config.bank import Bank
from foundad.config.encoder import Layer
from foundad.data.views import shifted, support_views
from foundad.detection.model import Model
from foundad.detection.shared.stable_adamw import StableAdamW
from foundad.detection.shared.training import Images, learning_rate
from foundad.device import ON_CPU, Compute
from foundad.errors import UserError
from foundad.plan.catalogue import load_catalogue

CATALOGUE = load_catalogue(ROOT / "config")
GOLDEN = Path(__file__).parent.parent / "golden"
KINDS = {
    "inp_former": (InpFormer, InpFormerSettings, {}),
    "dinomaly": (Dinomaly, DinomalySettings, {"dropout": 0.0}),
}
DEPTH, WIDTH, LAYERS, GRID, TOTAL = 8, 16, 8, 5, 12
SCORED = {"score_size": 256, "window": 5, "top_share": 0.01}


def like_the_official(kind: str, dtype: torch.dtype = torch.float32):
    """Our detector with the weights of the golden arrays, and these arrays."""
    arrays = np.load(GOLDEN / f"{kind}.npz")
    detector_class, settings_class, more = KINDS[kind]
    values = {"id": kind, "title": kind, "heads": 2, "depth": DEPTH} | SCORED | more
    detector = detector_class(settings_class.model_validate(values), 0)
    detector.layers = (Layer(WIDTH, GRID),) * LAYERS
    detector.network = detector.build(Groups(detector.layers), None)
    names = [name for name in arrays.files if name.startswith("weight/")]
    stored = {name.removeprefix("weight/"): torch.from_numpy(arrays[name]) for name in names}
    detector.network.load_state_dict(stored)
    detector.network.to(dtype)
    return detector, arrays, list(stored)


def stepped(detector, arrays, dtype: torch.dtype):
    """Five steps as the official code takes them: losses, rates, the first gradient."""
    training = detector.settings.training.model_copy(update={"warmup": 3})
    network, losses, rates, gradient = detector.network, [], [], None
    optimiser = StableAdamW(network.parameters(), training.weight_decay, training.gradient_norm)
    for step, batch in enumerate(torch.from_numpy(arrays["tokens"]).to(dtype)):
        loss = detector.loss(network, Images(250 * step, batch, None), torch.Generator())
        loss.backward()
        losses.append(loss.item())
        rates.append(learning_rate(step, TOTAL, training))
        gradient = gradient or {name: value.grad.numpy().copy() for name, value in network.named_parameters()}
        optimiser.step(rates[-1])
    return losses, rates, gradient


def close(found, expected, limit: float = 1e-5) -> None:
    """The largest difference is below ``limit`` of the largest number."""
    assert np.abs(np.asarray(found) - expected).max() <= limit * np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_losses_gradients_rates_and_scores_are_the_official_ones(kind):
    detector, arrays, names = like_the_official(kind)
    batch = torch.from_numpy(arrays["tokens"][0])
    with torch.no_grad():
        groups = detector.network.groups
        close(torch.stack(groups.reconstructed(detector.network(groups.fused(batch)))), arrays["outputs"])
    losses, rates, gradient = stepped(detector, arrays, torch.float32)
    close(losses, arrays["losses"])
    close(rates, arrays["rates"])
    close(np.concatenate([gradient[name].ravel() for name in names]), arrays["gradient"])
    patch_scores, image_scores = detector.score_images(arrays["tokens"][0])
    close(patch_scores, arrays["patch scores"])
    close(image_scores, arrays["image scores"])


@pytest.mark.parametrize("kind", KINDS)
def test_five_steps_of_the_optimiser_are_the_official_ones(kind):
    """In float64: in float32, Adam divides the rounding of gradients that are zero by itself."""
    detector, arrays, names = like_the_official(kind, torch.float64)
    stepped(detector, arrays, torch.float64)
    state, found = detector.network.state_dict(), []
    for name in names:
        value = state[name]
        # Nothing depends on a bias of keys under a softmax.
        found.append((value[len(value) // 2 :] if name == "extractor.kv.bias" else value).flatten())
    close(torch.cat(found), arrays["weights after 5 steps"], 1e-10)


# ---------------------------------------------------------------------------------------------------- losses


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b))


def plain_gradient(target: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Of the mean over pictures of one minus the cosine of the whole picture, as calculus gives it."""
    gradients = []
    for wanted, have in zip(target, found, strict=True):
        lengths = np.linalg.norm(wanted) * np.linalg.norm(have)
        gradients.append(-(wanted / lengths - cosine(wanted, have) * have / np.linalg.norm(have) ** 2) / len(target))
    return np.stack(gradients)


def plain_soft(distances: np.ndarray) -> np.ndarray:
    return (distances / distances.mean()) ** 3


def plain_hard(distances: np.ndarray) -> np.ndarray:
    """Of ten patches the three best reconstructed count a tenth."""
    limit = np.sort(distances.ravel())[int(np.ceil(distances.size * 0.3))]
    return np.where(distances < limit, 0.1, 1.0)


@pytest.mark.parametrize("mining", ["soft", "hard"])
@pytest.mark.parametrize("padded", [False, True])
def test_mining_scales_the_gradient_of_each_patch_and_no_loss(mining, padded):
    generator = np.random.default_rng(3)
    target, found = generator.normal(size=(2, 2, 10, 6))
    inside = np.ones((2, 10), bool)
    if padded:
        inside[0, :4] = False
    values = torch.from_numpy(found).requires_grad_()
    weighting = (lambda d, i: soft_mining(d, i, 3)) if mining == "soft" else (lambda d, i: hard_mining(d, i, 0.3, 0.1))
    mask = torch.from_numpy(inside) if padded else None
    loss = mined_cosine_loss([torch.from_numpy(target)], [values], weighting, mask)
    loss.backward()
    seen = [(t[i], f[i]) for t, f, i in zip(target, found, inside, strict=True)]
    assert loss.item() == pytest.approx(np.mean([1 - cosine(t, f) for t, f in seen]))
    distances = np.array(
        [[1 - cosine(a, b) for a, b in zip(*pair, strict=True)] for pair in zip(target, found, strict=True)]
    )
    weights = (plain_soft if mining == "soft" else plain_hard)(distances[inside])
    expected = np.zeros_like(found)
    for row, (t, f) in enumerate(seen):
        expected[row, inside[row]] = plain_gradient(t[None], f[None])[0] / 2
    expected[inside] *= weights[:, None]
    np.testing.assert_allclose(values.grad, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("power", [0.0, 3.0])
def test_a_perfect_reconstruction_costs_nothing_and_moves_nothing(power):
    target = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 9, 4)))
    values = (3 * target).requires_grad_()  # the length does not count
    loss = mined_cosine_loss([target], [values], lambda d, i: soft_mining(d, i, power))
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert values.grad.abs().max() < 1e-12
    assert coherence_loss(target, target).item() == pytest.approx(0, abs=1e-12)


def test_coherence_is_the_distance_to_the_nearest_prototype():
    generator = np.random.default_rng(1)
    fused, prototypes = generator.normal(size=(2, 5, 4)), generator.normal(size=(2, 3, 4))
    plain = [min(1 - cosine(t, p) for p in prototypes[row]) for row in range(2) for t in fused[row]]
    values = torch.from_numpy(fused), torch.from_numpy(prototypes)
    assert coherence_loss(*values).item() == pytest.approx(np.mean(plain))
    inside = torch.tensor([[True] * 5, [False] * 5])
    assert coherence_loss(*values, inside).item() == pytest.approx(np.mean(plain[:5]))


def test_linear_attention_is_that_of_the_whole_matrix():
    q, k, v = torch.randn(3, 2, 3, 7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inside = torch.ones(2, 7, dtype=torch.bool)
    inside[0, 5:] = False
    weights = (torch.where(q > 0, q + 1, q.exp()) @ torch.where(k > 0, k + 1, k.exp()).mT) * inside[:, None, None]
    torch.testing.assert_close(linear_attention(q, k, v, inside), (weights / weights.sum(-1, keepdim=True)) @ v)
    assert not linear_attention(torch.full_like(q, -1e4), k, v).any()  # no weight at all, and no division by zero


# ---------------------------------------------------------------------------------------------------- optimiser, groups


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_stable_adamw_in_plain_numbers(size):
    """Weight decay, AMSGrad, and both limits: of the gradient's length, and of the step of a tensor."""
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=shape) for shape in ((3, 4), (5,))]
    tensors = [torch.from_numpy(value.copy()).requires_grad_() for value in weights]
    optimiser = StableAdamW(tensors, weight_decay=0.1, gradient_norm=0.1)
    means, squares, largest = ([np.zeros_like(value) for value in weights] for _ in range(3))
    for step in range(1, 4):
        gradients = [size * 3 ** (step % 2 - 1) * generator.normal(size=value.shape) for value in weights]
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = torch.from_numpy(gradient.copy())
        optimiser.step(0.01)
        length = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
        gradients = [gradient * min(1, 0.1 / (length + 1e-6)) for gradient in gradients]
        for i, gradient in enumerate(gradients):
            means[i] = 0.9 * means[i] + 0.1 * gradient
            squares[i] = 0.999 * squares[i] + 0.001 * gradient**2
            largest[i] = np.maximum(largest[i], squares[i])
            scale = np.sqrt(largest[i] / (1 - 0.999**step)) + 1e-10
            rms = max(1.0, np.sqrt(((gradient / scale) ** 2).mean()))
            weights[i] = weights[i] * (1 - 0.01 * 0.1) - 0.01 / (1 - 0.9**step) / rms * means[i] / scale
    for tensor, value in zip(tensors, weights, strict=True):
        np.testing.assert_allclose(tensor.detach(), value, rtol=1e-9)
        assert tensor.grad is None


def test_layers_of_equal_width_are_averaged_and_others_stay_side_by_side():
    values = torch.arange(12.0).view(1, 2, 6)
    equal = Groups([Layer(2, 4)] * 3)
    assert equal.width == 2
    torch.testing.assert_close(equal.fused(values), values.view(1, 2, 3, 2).mean(2))
    first, rest = equal.targets(values)
    torch.testing.assert_close(first, values[:, :, :2])
    torch.testing.assert_close(rest, (values[:, :, 2:4] + values[:, :, 4:]) / 2)
    uneven = Groups([Layer(2, 4), Layer(4, 4)])
    assert uneven.width == 6
    assert uneven.fused(values) is values
    assert [part.shape[2] for part in uneven.targets(values)] == [2, 4]
    outputs = [values * number for number in range(4)]
    shallow, deep = uneven.reconstructed(outputs)
    torch.testing.assert_close(shallow, 2.5 * values[:, :, :2])  # of the last two blocks
    torch.testing.assert_close(deep, 0.5 * values[:, :, 2:])
    alone = Groups([Layer(6, 4)])
    torch.testing.assert_close(alone.targets(values), [values])
    torch.testing.assert_close(alone.reconstructed(outputs)[0], 1.5 * values)


@settings(deadline=None, max_examples=20)
@given(
    kind=st.sampled_from(list(KINDS)),
    channels=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    depth=st.sampled_from([2, 4]),
)
def test_a_network_has_as_many_weights_as_the_plan_says(kind, channels, depth):
    detector_class, settings_class, _ = KINDS[kind]
    keys = settings_class.model_validate({"id": kind, "title": kind, "depth": depth})
    layers = [Layer(number, 4) for number in channels]
    network = detector_class(keys, 0).build(Groups(layers), None)
    assert sum(parameter.numel() for parameter in network.parameters()) == keys.weights(width_of(layers))


def test_published_sizes():
    keys = CATALOGUE.methods["inp-former"]
    assert isinstance(keys, Reconstruction)
    assert [keys.heads_for(width) for width in (384, 768, 1024, 152)] == [6, 12, 16, 2]
    assert width_of(CATALOGUE.encoders["dinov2-reg-vitb14-392"].layers) == 768
    assert keys.bank.views == 22
    assert keys.training.budget(22 * 15) == 200 * 20
    for name, rate in (("inp-former", 1e-3), ("inp-former-150", 1e-3), ("dinomaly", 2e-3), ("dinomaly-150", 2e-3)):
        training = CATALOGUE.methods[name].training
        assert (training.learning_rate, training.final_rate, training.weight_decay) == (rate, 0.1, 1e-4)


def test_a_window_needs_a_map_and_a_middle():
    values = {"id": "x", "title": "x"}
    with pytest.raises(ValueError, match="key 'window': the image score of a smoothed map needs score_size"):
        InpFormerSettings.model_validate(values | {"window": 5})
    with pytest.raises(ValueError, match="key 'window': 4 is even; choose 5"):
        InpFormerSettings.model_validate(values | SCORED | {"window": 4})


def test_heads_that_do_not_divide_the_channels_are_an_error():
    with pytest.raises(UserError, match=r"dinomaly.yaml: key 'heads': 5 does not divide the encoder's 16 channels"):
        model("dinomaly", heads=5).fit(bank())


def test_the_window_is_a_cut_gaussian():
    maps = torch.zeros(1, 1, 9, 9)
    maps[0, 0, 4, 4] = 1
    found = smoothed(maps, 5, 4.0)[0, 0]
    assert found.sum() == pytest.approx(1)
    assert found[1].max() == 0
    assert found[4, 4] / found[4, 6] == pytest.approx(np.exp(4 / 32))


# ---------------------------------------------------------------------------------------------------- views


def test_the_views_of_a_few_shots():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    views = [np.asarray(view(Image.fromarray(pixels))) for view in support_views(CATALOGUE.methods["inp-former"].bank)]
    assert len(views) == 22
    assert {view.shape for view in views} == {pixels.shape}
    assert len({view.tobytes() for view in views}) == 22
    np.testing.assert_array_equal(views[0], pixels)
    assert (views[-1] == views[-1][:, :, :1]).all()


@pytest.mark.parametrize(("right", "down"), [(0.1, 0.2), (-0.1, 0.2), (0.1, -0.2), (-0.1, -0.2)])
def test_a_shift_mirrors_the_border(right, down):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    found = np.asarray(shifted(Image.fromarray(pixels), right, down))
    across, along = round(0.1 * 30), round(0.2 * 20)
    whole = np.pad(pixels, ((along, along), (across, across), (0, 0)), mode="symmetric")
    top, left = (0 if down > 0 else 2 * along), (0 if right > 0 else 2 * across)
    np.testing.assert_array_equal(found, whole[top : top + 20, left : left + 30])
    assert Bank(shifts=[(right, down)]).views == 2


# ---------------------------------------------------------------------------------------------------- fitting


def model(name: str, compute: Compute = ON_CPU, **changes) -> Model:
    return Model(CATALOGUE.methods[name].quick().model_copy(update=changes), encoder(), 0, top_k=3, compute=compute)


@pytest.mark.parametrize("name", ["inp-former", "dinomaly"])
def test_what_is_learned_comes_from_the_seed_and_the_drawn_images_alone(name):
    state = torch.get_rng_state()
    first = model(name)
    record = first.fit(bank(images=4))["pooled"]
    torch.manual_seed(99)
    second = model(name)
    second.fit(replace(bank(images=4), synthetic=tokens(4, 5)))  # pairs are for health and threshold
    for ours, theirs in zip(first._arrays(), second._arrays(), strict=True):
        np.testing.assert_array_equal(ours[1], theirs[1])
    assert record["losses"][-1] < record["losses"][0] / 2
    assert record["health"]["synthetic_residual"] > record["health"]["clean_residual"]
    torch.set_rng_state(state)


@pytest.mark.parametrize("name", ["inp-former", "dinomaly"])
def test_bfloat16_finds_the_same(name):
    images = tokens(3, 7)
    images[0, 5] = np.random.default_rng(3).normal(0, 4, images.shape[2])
    exact, rounded = (model(name, Compute(precision=precision)) for precision in ("float32", "bfloat16"))
    for fitted in (exact, rounded):
        fitted.fit(bank(images=4))
    found = [fitted.score({"": {"patch": images}}, "c0")[0][0] for fitted in (exact, rounded)]
    assert found[0].argmax() == found[1].argmax() == 5
    assert (found[0] != found[1]).any()
    assert found[1][5] == pytest.approx(found[0][5], rel=0.2)


@pytest.mark.parametrize("name", ["inp-former", "dinomaly"])
def test_the_operations_of_scoring_are_counted(name):
    """As the stage efficiency counts them; the plan says about the same."""
    fitted = model(name, window=None)  # without the map, whose smoothing is counted too
    fitted.fit(bank())
    counter = FlopCounterMode(display=False)
    with counter:
        scores(fitted, tokens(2, 7))
    planned = fitted.method.operations(2, 2, 1, fitted.encoder) - fitted.method.operations(2, 0, 1, fitted.encoder)
    assert counter.get_total_flops() == pytest.approx(planned, rel=0.25)


def test_an_epoch_without_a_batch_is_an_error_that_names_the_cure():
    settings = CATALOGUE.methods["inp-former"]
    with pytest.raises(
        UserError, match=r"inp-former.yaml: 4 drawn images fill no batch of 16.*lower training.batch_size"
    ):
        Model(settings, encoder(), 0, top_k=3).fit(bank(images=4))


FITS = """
import sys
sys.path[:0] = ["tests", "tests/detection"]
from pathlib import Path
from test_methods import bank, encoder
from foundad.detection.model import Model
from foundad.plan.catalogue import load_catalogue
method = load_catalogue(Path("config")).methods["dinomaly"].quick()
training = method.training.model_copy(update={"steps": 150})
model = Model(method.model_copy(update={"training": training}), encoder(), 0, 3)
print("fits", flush=True)
model.fit(bank(images=4))
model.save(Path(sys.argv[1]))
"""


def test_a_fit_that_was_killed_gives_the_same_bytes_when_it_runs_again(tmp_path):
    def start(name: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", FITS, str(tmp_path / name)], cwd=ROOT, stdout=subprocess.PIPE)

    killed = start("model")
    killed.stdout.readline()
    time.sleep(0.3)  # in its steps
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert list(tmp_path.iterdir()) == []
    for name in ("model", "undisturbed"):
        assert start(name).wait() == 0
    assert (tmp_path / "model").read_bytes() == (tmp_path / "undisturbed").read_bytes()
