"""Encoders of the library timm: transformer blocks and convolutional stages."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundad.config.encoder import Blocks, Encoder, HubWeights, LocalWeights, PackageWeights, Stages
from foundad.encoders.folding import fold_batch_norms
from foundad.encoders.tensors import load_in_order, read_tensors, require_blocks, require_finite, require_known
from foundad.encoders.weights import find_weights, require_depth
from foundad.errors import UserError
from foundad.paths import CLASS, PATCH

OFFICIAL_OFFSET = 0.1  # added to the number of patches by DINO's and DINOv2's interpolation


class TimmBlocks(nn.Module):
    """Patch tokens of blocks: images [B,3,S,S] -> [B,N,D]; class and register tokens are left out.

    ``class`` [B,C] is the class token of the last block after the network's final normalisation. Where a network has none,
    it is ``forward_head(features, pre_logits=True)``: for SigLIP the output of its attention pooling.
    """

    def __init__(self, network: nn.Module, features: Blocks) -> None:
        super().__init__()
        self.network: Any = network
        self.features = features
        self.indices = [features.depth - layer for layer in features.counted]

    def forward(self, images: Tensor) -> Tensor:
        return self.named(images, (PATCH,))[PATCH]

    def named(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        # The library gives each block once, in the network's order.
        ordered = sorted(set(self.indices))
        last, tokens = whole_or_part(
            self.network, images, CLASS in names, indices=ordered, norm=self.features.norm, output_fmt="NLC"
        )
        found = {PATCH: combine_blocks([tokens[ordered.index(index)] for index in self.indices], self.features)}
        if last is not None:
            has_token = getattr(self.network, "cls_token", None) is not None
            found[CLASS] = last[:, 0] if has_token else self.network.forward_head(last, pre_logits=True)
        return {name: found[name] for name in names}


class TimmStages(nn.Module):
    """Feature maps of several stages on one grid: images [B,3,S,S] -> [B,N,D].

    ``class`` [B,C] is what the network's classifier reads, ``forward_head(features, pre_logits=True)``: the features after
    the last stage (and the convolution before the classifier, where there is one), averaged over the picture.
    """

    def __init__(self, network: nn.Module, indices: Sequence[int], features: Stages) -> None:
        super().__init__()
        self.network: Any = network
        self.indices = list(indices)
        self.features = features

    def forward(self, images: Tensor) -> Tensor:
        return self.named(images, (PATCH,))[PATCH]

    def named(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        # channels_last: 1.3 times faster for depthwise convolutions on CPU, and what tensor cores want on CUDA.
        images = images.contiguous(memory_format=torch.channels_last)
        last, maps = whole_or_part(self.network, images, CLASS in names, indices=self.indices, output_fmt="NCHW")
        found = {PATCH: pool_stages(maps, self.features)}
        if last is not None:
            found[CLASS] = self.network.forward_head(last, pre_logits=True)
        return {name: found[name] for name in names}


def whole_or_part(network: Any, images: Tensor, whole: bool, **options: Any) -> tuple[Tensor | None, list[Tensor]]:
    """The final features of a network if the ``whole`` of it runs (else None), and intermediate features."""
    found = network.forward_intermediates(images, intermediates_only=not whole, stop_early=not whole, **options)
    return found if whole else (None, found)


def build(settings: Encoder) -> nn.Module:
    """The timm model of ``settings`` with its weights; see :func:`foundad.encoders.build_network`."""
    source = settings.file
    if not timm.is_model(settings.model):
        close = timm.list_models(f"*{settings.model.split('_')[0]}*")[:3]
        raise UserError(f"{source}: key 'model': timm has no {settings.model}; similar: {', '.join(close) or 'none'}")
    network: Any = create(settings).eval()
    features = settings.features
    if isinstance(features, Blocks):
        require_depth(settings, len(network.blocks))
        return TimmBlocks(network, features)
    reductions = [info["reduction"] for info in network.feature_info]
    missing = [stride for stride in features.strides if stride not in reductions]
    if missing:
        raise UserError(f"{source}: key 'features.strides': {settings.model} has strides {reductions}, not {missing}")
    indices = [max(i for i, reduction in enumerate(reductions) if reduction == s) for s in features.strides]
    return TimmStages(fold_batch_norms(network, settings.image_size), indices, features)


def create(settings: Encoder) -> nn.Module:
    """The whole network with its weights, with a classifier if the weights have one; random weights are seeded."""
    features = settings.features
    network: Any = _loaded(settings, {"img_size": settings.image_size} if isinstance(features, Blocks) else {})
    if isinstance(features, Blocks) and features.rope_periods == "bfloat16":
        if not hasattr(network, "rope"):
            raise UserError(f"{settings.file}: key 'features.rope_periods': {settings.model} has no rotary positions")
        network.rope.periods.copy_(network.rope.periods.bfloat16().float())
    if isinstance(features, Blocks) and features.positions == "official":
        native: Any = _loaded(settings, {})
        # A class token may have no position of its own: timm adds it to the token for models with registers.
        prefix = 0 if network.no_embed_class else network.num_prefix_tokens
        with torch.no_grad():
            network.pos_embed.copy_(official_positions(native.pos_embed, network.pos_embed.shape[1], prefix))
    return network


def official_positions(positions: Tensor, tokens: int, prefix: int) -> Tensor:
    """Learned positions [1,P,D] resized to ``tokens`` positions as in the official DINO and DINOv2 code.

    Bicubic without antialiasing; the scale is (side + 0.1) / native side, which shifts the grid a little. The first
    ``prefix`` positions stay as they are.
    """
    side, native = round((tokens - prefix) ** 0.5), round((positions.shape[1] - prefix) ** 0.5)
    if side == native:
        return positions
    grid = positions[:, prefix:].reshape(1, native, native, -1).permute(0, 3, 1, 2)
    scale = (side + OFFICIAL_OFFSET) / native
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    return torch.cat([positions[:, :prefix], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def _loaded(settings: Encoder, options: dict[str, Any]) -> nn.Module:
    source = settings.file
    options = dict(settings.options) | options
    weights = settings.weights
    path = None if weights == "random" else find_weights(settings)
    pretrained = isinstance(weights, HubWeights | LocalWeights)
    if pretrained:
        assert path is not None
        require_blocks(read_tensors(path), path, settings)
        # timm reads the file itself: its filters rename official keys, drop heads and resize positions.
        options |= {"num_classes": 0, "pretrained_cfg_overlay": {"file": str(path), "custom_load": False, "source": ""}}
    with torch.random.fork_rng(devices=[]), _collected_messages() as messages:
        torch.manual_seed(0)
        try:
            network = timm.create_model(settings.model, pretrained=pretrained, **options)
        except TypeError as error:
            raise UserError(f"{source}: key 'options': {str(error).splitlines()[0]}") from None
        except (RuntimeError, KeyError, ValueError, AssertionError, IndexError, AttributeError) as error:
            # timm's filters may raise any of these on a file of another model; without a file the options are wrong.
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            if path is None:
                raise UserError(f"{source}: key 'options': {settings.model}: {reason}") from None
            raise UserError(f"{path}: does not fit {settings.model} of {source}: {reason}") from None
    missing = [line for line in messages if line.startswith("Missing keys")]
    if missing:
        raise UserError(f"{path}: does not fit {settings.model} of {source}: {' '.join(missing[0].split())[:200]}")
    if path is not None:
        _check(network, path, messages, settings)
    return network


def _check(network: nn.Module, path: Path, messages: Sequence[str], settings: Encoder) -> None:
    """Load a package's weights, and refuse what timm's loader accepts: tensors of another model, non-finite numbers."""
    source = settings.file
    for line in messages:
        found = re.match(r"Unexpected keys \((.*)\) found", line, re.DOTALL)
        if found:
            require_known(found[1].split(", "), path, settings.model, source)
    if isinstance(settings.weights, PackageWeights):
        load_in_order(network, path, settings)
    require_finite(network, path)


@contextmanager
def _collected_messages() -> Iterator[list[str]]:
    """Collect the messages of timm's loader instead of printing them: it only logs that weights are missing."""
    lines: list[str] = []
    logger = logging.getLogger("timm.models._builder")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def combine_blocks(tokens: Sequence[Tensor], features: Blocks) -> Tensor:
    """Tokens [B,N,C] of several blocks as one [B,N,groups*C]: means of equally many blocks each, side by side."""
    if len(tokens) == 1:
        return tokens[0]
    count = len(tokens) // features.groups
    groups = [tokens[start : start + count] for start in range(0, len(tokens), count)]
    return torch.cat([torch.stack(list(group)).mean(0) if count > 1 else group[0] for group in groups], dim=2)


def pool_stages(maps: Sequence[Tensor], features: Stages) -> Tensor:
    """Feature maps of several strides on one grid, as patch tokens.

    Each map is averaged over a ``pool`` x ``pool`` window (stride 1, borders averaged over what lies inside), brought to
    the grid by area averaging when it is finer, bilinearly or by repetition when it is coarser, and all are concatenated.

    Args:
        maps: [B,C_i,H_i,W_i] each.

    Returns:
        [B,N,D] with N = grid**2 and D = sum of C_i.
    """
    grid = (features.grid, features.grid)
    pooled = []
    for feature_map in maps:
        if features.pool > 1:
            feature_map = F.avg_pool2d(feature_map, features.pool, 1, features.pool // 2, count_include_pad=False)
        if feature_map.shape[-1] > features.grid:
            feature_map = F.adaptive_avg_pool2d(feature_map, grid)
        elif feature_map.shape[-1] < features.grid:
            corners = None if features.upsampling == "nearest" else False
            feature_map = F.interpolate(feature_map, grid, mode=features.upsampling, align_corners=corners)
        pooled.append(feature_map.flatten(2).transpose(1, 2))
    return torch.cat(pooled, dim=2)
