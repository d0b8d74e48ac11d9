"""Tiny twins of encoders: a random network of the same family, of the same depth, layers and grid rule, few channels.

A twin keeps its id, so that everything that names the encoder finds it. What it computes means nothing.
"""

import math
from typing import Any

from foundad.config.base import dump
from foundad.config.encoder import Blocks, Encoder, Stages
from foundad.errors import UserError

WIDTH, HEADS = 32, 2  # of a transformer
NARROW = [4, 8, 16, 32]  # channels of the four stages of a ResNet, before its blocks widen them
SMALLEST = 32  # pixels a side that any encoder takes
TOKEN_SHARE, FEWEST = 6, 3  # a twin of a transformer has a sixth of the tokens a side, at least three
STEP_SHARE, FEWEST_STEPS = 4, 2  # a twin with stages has a quarter of the last stage's positions a side, at least two
MARKED = " (rehearsal)"  # on every title, so that no table or figure of a rehearsal passes for a result
LICENCE, SOURCE = "none", "random numbers, for a rehearsal"


def twin(encoder: Encoder) -> dict[str, Any]:
    """The values of the YAML of the twin of ``encoder``; of a concatenation the twins of its parts are meant.

    Raises:
        UserError: nobody has said how networks of its library are made small.
    """
    kept = {"title": encoder.title + MARKED, "library": encoder.library, "licence": LICENCE, "source": SOURCE}
    if encoder.parts:
        return kept | {"parts": [part.id for part in encoder.parts]}
    values = dump(encoder) | kept | {"weights": "random", "image_size": image_size(encoder)}
    features = dict(values["features"])
    if isinstance(encoder.features, Stages):
        options, channels = _narrow(encoder)
        features["grid"] = grid(encoder)
        if features["channels"] is not None:
            features["channels"] = channels
        values["channels"] = sum(channels)
    else:
        options = _small(encoder)
        blocks = encoder.features.counted if encoder.features.combine == "concatenate" else [0]
        values["channels"] = WIDTH * len(blocks)
    del values["id"], values["parts"]
    return values | {"features": features, "options": options}


def image_size(encoder: Encoder) -> int:
    """The side of the twin's images: the rule of its patches or strides, with few tokens."""
    if isinstance(encoder.features, Blocks):
        return tokens(encoder.image_size // encoder.features.patch) * encoder.features.patch
    last = max(encoder.features.strides)
    steps = max(FEWEST_STEPS, round(encoder.image_size / last / STEP_SHARE))
    while steps * last < SMALLEST or (steps * last * encoder.features.grid) % encoder.image_size:
        steps += 1
    return steps * last


def grid(encoder: Encoder) -> int:
    """Tokens a side of the twin."""
    if isinstance(encoder.features, Blocks):
        return image_size(encoder) // encoder.features.patch
    return encoder.features.grid * image_size(encoder) // encoder.image_size


def tokens(side: int) -> int:
    """Tokens a side of the twin of a transformer that has ``side``."""
    return max(FEWEST, math.floor(side / TOKEN_SHARE + 0.5))


def _small(encoder: Encoder) -> dict[str, Any]:
    """Options of a transformer with few channels."""
    if encoder.library == "timm":
        return encoder.options | {"embed_dim": WIDTH, "num_heads": HEADS}
    if encoder.library == "open_clip":
        return encoder.options | {"width": WIDTH, "head_width": WIDTH // HEADS}
    if encoder.library == "transformers":
        sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS}
        learned = encoder.options.get("image_size")  # the size that positions are learned at
        if isinstance(learned, int) and isinstance(encoder.features, Blocks):
            sizes["image_size"] = tokens(learned // encoder.features.patch) * encoder.features.patch
        return encoder.options | sizes
    raise UserError(
        f"{encoder.file}: key 'library': a rehearsal cannot make networks of '{encoder.library}' small; say how in "
        "foundad/rehearsal/encoders.py"
    )


def _narrow(encoder: Encoder) -> tuple[dict[str, Any], list[int]]:
    """Options of a convolutional network and the channels of its stages; ResNets become narrow, others stay as wide."""
    import timm
    import torch

    assert isinstance(encoder.features, Stages)
    options: dict[str, Any] = encoder.options | ({"channels": NARROW} if "resnet" in encoder.model else {})
    with torch.device("meta"):
        network: Any = timm.create_model(encoder.model, **options)
    by_stride: dict[int, int] = {stage["reduction"]: stage["num_chs"] for stage in network.feature_info}
    return options, [by_stride[stride] for stride in encoder.features.strides]
