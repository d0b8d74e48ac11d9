"""Encoders of the library timm: transformer blocks and convolutional stages."""

from typing import Any

import timm
import torch
from torch import nn

from foundad.config import Blocks, Encoder, Stages
from foundad.encoders.base import FrozenEncoder
from foundad.encoders.folding import fold_batch_norms
from foundad.encoders.weights import find_package_file, load_in_order
from foundad.errors import UserError


def build(settings: Encoder) -> FrozenEncoder:
    """The timm model of ``settings`` with its weights; see :func:`foundad.encoders.build_encoder`."""
    source = f"config/encoders/{settings.id}.yaml"
    if not timm.is_model(settings.model):
        close = timm.list_models(f"*{settings.model.split('_')[0]}*")[:3]
        raise UserError(f"{source}: key 'model': timm has no {settings.model}; similar: {', '.join(close) or 'none'}")
    network = create(settings)
    indices = _indices(settings, network, source)
    if isinstance(settings.features, Stages):
        network = fold_batch_norms(network.eval(), settings.image_size)
    return FrozenEncoder(settings, network, indices)


def create(settings: Encoder) -> nn.Module:
    """The whole network, classifier included, with its weights (random ones are seeded: the same everywhere)."""
    options: dict[str, Any] = {"img_size": settings.image_size} if isinstance(settings.features, Blocks) else {}
    if settings.weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return timm.create_model(settings.model, pretrained=False, **options)
    network = timm.create_model(settings.model, pretrained=False, **options)
    load_in_order(network, find_package_file(settings.id, settings.weights), settings)
    return network


def _indices(settings: Encoder, network: Any, source: str) -> list[int]:
    features = settings.features
    if isinstance(features, Blocks):
        depth = len(network.blocks)
        if depth != features.depth:
            raise UserError(
                f"{source}: key 'features.depth': {settings.model} has {depth} blocks, not {features.depth}"
            )
        return [depth - features.layer]
    reductions = [info["reduction"] for info in network.feature_info]
    missing = [stride for stride in features.strides if stride not in reductions]
    if missing:
        raise UserError(f"{source}: key 'features.strides': {settings.model} has strides {reductions}, not {missing}")
    return [max(i for i, reduction in enumerate(reductions) if reduction == s) for s in features.strides]
