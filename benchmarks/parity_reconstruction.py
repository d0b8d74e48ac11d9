"""Compares our INP-Former and Dinomaly with the official code on small random networks, in float32 on the CPU.

    git clone https://github.com/luow23/INP-Former      # MIT; read at 17d2653
    git clone https://github.com/guojiajeremy/Dinomaly  # Apache-2.0; read at c5c76d0
    python benchmarks/parity_reconstruction.py --inp-former INP-Former --dinomaly Dinomaly

Either may be left out. None of their code is part of this project, and of what it imports only torch and what is
installed here is needed. Both sides get the same weights, and tokens of layers in place of an encoder's. For Dinomaly the
official network drops the class and register tokens, which encoders here do not give, and dropout is off on both sides.
Prints the largest difference of outputs, losses, gradients, rates, patch and image scores, relative to the largest number.
Adam divides a gradient by its own size, rounding included, so single weights whose gradient is zero but for rounding move
freely. Weights after five steps are therefore compared by the length of their difference, and again in float64, where
the largest difference counts. Exits with 1 if a number exceeds 1e-5. ``--golden FOLDER`` writes the official numbers.
"""

import argparse
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from baselines.dinomaly.detector import Detector as Dinomaly
from baselines.dinomaly.settings import Settings as DinomalySettings
from baselines.inp_former.detector import Detector as InpFormer
from baselines.inp_former.settings import Settings as InpFormerSettings
from baselines.reconstruction.network import Groups
from baselines.reconstruction.trained import Trained, group_distances
from foundad.config.encoder import Layer
from foundad.detection.shared.stable_adamw import StableAdamW
from foundad.detection.shared.training import Images, learning_rate

LIMIT = 1e-5
HEADS, LAYERS, DEPTH = 2, 8, 8
SIDE, BATCH, STEPS, WARMUP, TOTAL = 5, 4, 5, 3, 12
WEIGHTS = "weights after 5 steps"
SCORED = {"score_size": 256, "window": 5, "top_share": 0.01, "map_size": 392}
NAMES = {  # official name -> ours, of weights, up to the last dot
    "bottleneck.0": "bottleneck",
    "aggregation.0": "extractor",
    "prototype_token": "extractor.queries",
    "learn_scale": "scale",
}


class _Anything(types.ModuleType):
    """A module that the official code imports and that nothing compared here uses."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


@contextmanager
def checkout(path: Path) -> Iterator[Callable[[str], Any]]:
    """A function that imports modules of the official repository ``path``, with stand-ins for packages not installed."""
    before = dict(sys.modules)
    sys.path.insert(0, str(path))
    for name in ("cv2", "kornia", "adeval", "xformers", "colorama"):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = _Anything(name)
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(path))
        for name in set(sys.modules) - set(before):
            if str(path) in str(getattr(sys.modules[name], "__file__", "")) or name in (
                "models",
                "optimizers",
                "utils",
            ):
                del sys.modules[name]


class _Encoder(nn.Module):
    """Gives random tokens [B,N,W] layer by layer, with one class token in front, as an encoder of the official code."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Next(self, number) for number in range(LAYERS))
        self.num_register_tokens = 0
        self.layers: Tensor = torch.empty(0)

    def prepare_tokens(self, images: Tensor) -> Tensor:
        """``images`` are the layers' tokens themselves, [B,L,1+N,W]."""
        self.layers = images
        return images[:, 0]


class _Next(nn.Module):
    def __init__(self, encoder: _Encoder, number: int) -> None:
        super().__init__()
        self.of, self.number = [encoder], number

    def forward(self, tokens: Tensor) -> Tensor:
        return self.of[0].layers[:, self.number]


def official(kind: str, load: Callable[[str], Any], width: int) -> nn.Module:
    """The official network on :class:`_Encoder`."""
    uad, parts = load("models.uad"), load("models.vision_transformer")
    block = {"dim": width, "num_heads": HEADS, "mlp_ratio": 4.0, "qkv_bias": True, "norm_layer": _norm}
    halves = [[0, 1, 2, 3], [4, 5, 6, 7]]
    shared = {"target_layers": list(range(LAYERS)), "fuse_layer_encoder": halves, "fuse_layer_decoder": halves}
    if kind == "inp-former":
        bottleneck = nn.ModuleList([parts.Mlp(width, 4 * width, width, drop=0.0)])
        extractor = nn.ModuleList([parts.Aggregation_Block(**block)])
        decoder = nn.ModuleList(parts.Prototype_Block(**block) for _ in range(DEPTH))
        tokens = nn.ParameterList([nn.Parameter(torch.empty(6, width))])
        parts_of = {"prototype_token": tokens, "remove_class_token": True}
        return uad.INP_Former(_Encoder(), bottleneck, extractor, decoder, **parts_of, **shared)
    bottleneck = nn.ModuleList([parts.bMlp(width, 4 * width, width, drop=0.0)])
    decoder = nn.ModuleList(parts.Block(attn=parts.LinearAttention2, **block) for _ in range(DEPTH))
    return uad.ViTill(_Encoder(), bottleneck, decoder, remove_class_token=True, **shared)


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-8)


def renamed(name: str) -> str:
    """Our name of an official weight."""
    for theirs, ours in NAMES.items():
        name = name.replace(f"{theirs}.", f"{ours}.") if not name.endswith(theirs) else name[: -len(theirs)] + ours
    return name.replace(".attn.", ".")


def ours(kind: str, weights: dict[str, Tensor], width: int) -> Trained:
    """Our detector with the official weights."""
    common = {"id": kind, "title": kind, "heads": HEADS, "depth": DEPTH} | SCORED
    detector: Trained
    if kind == "inp-former":
        detector = InpFormer(InpFormerSettings.model_validate(common), 0)
    else:
        detector = Dinomaly(DinomalySettings.model_validate(common | {"dropout": 0.0}), 0)
    detector.layers = (Layer(width, SIDE),) * LAYERS
    detector.network = detector.build(Groups(detector.layers), None)
    detector.network.load_state_dict(weights)
    return detector


def official_step(kind: str, load: Callable[[str], Any], model: nn.Module, images: Tensor, step: int) -> Tensor:
    """The official loss of ``step``, with its gradients."""
    utils = load("utils")
    if kind == "inp-former":
        encoded, decoded, gathered = model(images)
        loss = utils.global_cosine_hm_adaptive(encoded, decoded, y=3) + 0.2 * gathered
    else:
        encoded, decoded = model(images)
        share = min(0.9 * step * 250 / 1000, 0.9)
        loss = utils.global_cosine_hm_percent(encoded, decoded, p=share, factor=0.1)
    loss.backward()
    return loss.detach()


def official_scores(kind: str, load: Callable[[str], Any], model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Patch scores [B,N] and image scores [B] as the official evaluation computes them."""
    utils = load("utils")
    with torch.no_grad():
        encoded, decoded = model(images)[:2]
        _, maps = utils.cal_anomaly_maps(encoded, decoded, SIDE)
        smooth = utils.get_gaussian_kernel(kernel_size=5, sigma=4)
        whole, _ = utils.cal_anomaly_maps(encoded, decoded, SCORED["map_size"])
        whole = nn.functional.interpolate(whole, size=SCORED["score_size"], mode="bilinear", align_corners=False)
        pixels = smooth(whole).flatten(1).sort(dim=1, descending=True)[0]
    patches = torch.cat(maps, dim=1).mean(dim=1).flatten(1)
    return patches, pixels[:, : int(pixels.shape[1] * SCORED["top_share"])].mean(dim=1)


def compare(kind: str, path: Path, width: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Relative differences by what was compared, and what a test of the same needs: weights, tokens, official numbers."""
    with checkout(path) as load:
        model, detector, names, batches = _pair(kind, load, torch.float32, width)
        ours_now = detector.network.state_dict()
        kept = {f"weight/{name}": ours_now[name].numpy().copy() for name in names.values()}
        kept["tokens"] = np.stack([_joined(batch).numpy() for batch in batches])
        found = _steps(kind, load, model, detector, names, batches)
        patches, images = official_scores(kind, load, model.eval(), batches[0])
        found["patch scores"], found["image scores"] = (
            (_array(theirs), mine)
            for theirs, mine in zip((patches, images), detector.score_images(kept["tokens"][0]), strict=True)
        )
        double = _steps(kind, load, *_pair(kind, load, torch.float64, width))
    kept |= {name: pair[0] for name, pair in found.items()}
    differences = {name: difference(*pair) for name, pair in found.items() if name != WEIGHTS}
    theirs, mine = found[WEIGHTS]
    kept[WEIGHTS] = double[WEIGHTS][0]
    differences[f"{WEIGHTS}, length"] = float(np.linalg.norm(theirs - mine) / np.linalg.norm(theirs))
    differences[f"{WEIGHTS}, float64"] = difference(*double[WEIGHTS])
    return differences, kept


def _pair(
    kind: str, load: Callable[[str], Any], dtype: torch.dtype, width: int
) -> tuple[Any, Trained, dict[str, str], list[Tensor]]:
    """The official network, our detector with the same weights, names of weights on both sides, and batches of layers."""
    torch.manual_seed(0)
    model = official(kind, load, width)
    trained = {name: parameter for name, parameter in model.named_parameters() if not name.startswith("encoder")}
    for parameter in trained.values():
        parameter.data = torch.randn(parameter.shape) * 0.1
    names = {name: renamed(name) for name in trained}
    detector = ours(kind, {names[name]: value.detach().clone() for name, value in trained.items()}, width)
    batches = [torch.randn(BATCH, LAYERS, 1 + SIDE**2, width) for _ in range(STEPS)]
    detector.network.to(dtype)
    return model.to(dtype), detector, names, [batch.to(dtype) for batch in batches]


def _steps(
    kind: str,
    load: Callable[[str], Any],
    model: nn.Module,
    detector: Trained,
    names: dict[str, str],
    batches: list[Tensor],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Official numbers and ours: outputs and gradient of the first step, losses and rates of all, and what came of them."""
    network: Any = detector.network
    weights = dict(model.named_parameters())
    trainable = [weights[name] for name in names]
    rate = detector.settings.training.learning_rate
    training = detector.settings.training.model_copy(update={"warmup": WARMUP})
    optimiser = load("optimizers").StableAdamW(
        trainable, lr=rate, betas=(0.9, 0.999), weight_decay=1e-4, amsgrad=True, eps=1e-10
    )
    schedule = load("utils").WarmCosineScheduler(optimiser, rate, rate / 10, total_iters=TOTAL, warmup_iters=WARMUP)
    own = StableAdamW(network.parameters(), training.weight_decay, training.gradient_norm)
    found: dict[str, tuple[Any, Any]] = {"outputs": (_outputs(model, batches[0]), _our_outputs(detector, batches[0]))}
    losses, rates = [], []
    for step, batch in enumerate(batches):
        optimiser.zero_grad()
        loss = official_step(kind, load, model, batch, step)
        mine = detector.loss(network, Images(step * 250, _joined(batch), None), torch.Generator())
        mine.backward()
        losses.append((float(loss), float(mine.detach())))
        rates.append((optimiser.param_groups[0]["lr"], learning_rate(step, TOTAL, training)))
        if step == 0:
            pairs = [(weights[name].grad, network.get_parameter(names[name]).grad) for name in names]
            found["gradient"] = _flat(pairs)
        nn.utils.clip_grad_norm_(trainable, max_norm=0.1)
        optimiser.step()
        schedule.step()
        own.step(learning_rate(step, TOTAL, training))
    found["losses"], found["rates"] = tuple(zip(*losses, strict=True)), tuple(zip(*rates, strict=True))
    found[WEIGHTS] = _flat([(_moved(model, name), _moved(network, names[name])) for name in names])
    found["outputs after 5 steps"] = _outputs(model, batches[0]), _our_outputs(detector, batches[0])
    return {name: (_array(first), _array(second)) for name, (first, second) in found.items()}


def _flat(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
    """Both sides of ``pairs``, each as one vector."""
    return tuple(torch.cat([value.flatten() for value in side]) for side in zip(*pairs, strict=True))


def _moved(network: nn.Module, name: str) -> Tensor:
    """A weight after the steps, without a bias of keys under a softmax.

    Its gradient is zero but for rounding, and nothing depends on it. Adam divides that rounding by itself.
    """
    value = network.state_dict()[name]
    return (
        value[len(value) // 2 :]
        if name.endswith("kv.bias") and ("aggregation" in name or "extractor" in name)
        else value
    )


def _joined(images: Tensor) -> Tensor:
    """Layers [B,L,1+N,W] as tokens [B,N,L*W] without the class token."""
    return images[:, :, 1:].permute(0, 2, 1, 3).flatten(2)


def _outputs(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.stack([found.flatten(2).transpose(1, 2) for found in model(images)[1]])


def _our_outputs(detector: Trained, images: Tensor) -> Tensor:
    network: Any = detector.network
    with torch.no_grad():
        outputs = network(network.groups.fused(_joined(images)))
        assert group_distances(network.groups, _joined(images), outputs).shape == (BATCH, SIDE**2)
        return torch.stack(network.groups.reconstructed(outputs))


def _array(values: Any) -> np.ndarray:
    return values.detach().numpy() if isinstance(values, Tensor) else np.array(values, np.float64)


def difference(theirs: np.ndarray, mine: np.ndarray) -> float:
    """Largest difference over the largest number."""
    return float(np.abs(theirs - mine).max() / np.abs(theirs).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inp-former", type=Path)
    parser.add_argument("--dinomaly", type=Path)
    parser.add_argument("--width", type=int, default=128, help="channels of the networks")
    parser.add_argument("--golden", type=Path, help="folder for golden arrays")
    args = parser.parse_args()
    worst = 0.0
    for kind, path in (("inp-former", args.inp_former), ("dinomaly", args.dinomaly)):
        if path is None:
            continue
        differences, kept = compare(kind, path.resolve(), args.width)
        if args.golden:
            np.savez_compressed(args.golden / f"{kind.replace('-', '_')}.npz", **kept)
        for what, value in differences.items():
            print(f"{kind:12} {what:24} {value:.1e}")
            worst = max(worst, value)
    print(f"largest relative difference {worst:.1e}, limit {LIMIT:.0e}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
