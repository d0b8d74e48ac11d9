"""Tiny twins of encoders: random networks of the same family, depth, layers and grid rule, but with few channels.

A twin has the id of its encoder, so everything that names the encoder finds the twin. Its outputs have no meaning.
"""

import math
from typing import Any

from foundad.config.base import dump
from foundad.config.encoder import Blocks, Encoder, Stages
from foundad.errors import UserError

WIDTH, HEADS = 32, 2  # channels and attention heads of a transformer
NARROW = [4, 8, 16, 32]  # base channels of the four stages of a ResNet, before the widening in its blocks
SMALLEST = 32  # smallest side of an image in pixels that every encoder accepts
TOKEN_SHARE, FEWEST = 6, 3  # a twin of a transformer has a sixth of the tokens per side, but at least three
STEP_SHARE, FEWEST_STEPS = 4, 2  # with stages: a quarter of the positions per side in the last, but at least two
MARKED = " (rehearsal)"  # in every title, so that nobody takes a rehearsal for a result
LICENCE, SOURCE = "none", "random numbers, for a rehearsal"


def twin(encoder: Encoder) -> dict[str, Any]:
    """The YAML values of the twin of ``encoder``. A concatenation keeps the ids of its parts, which are then twins.

    Raises:
        UserError: there is no rule to make networks of its library small.
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
        values["channels"] = WIDTH * encoder.features.groups
    del values["id"], values["parts"]
    return values | {"features": features, "options": options}


def image_size(encoder: Encoder) -> int:
    """The side of the twin's images in pixels. It follows the same rule of patches or strides, with few tokens."""
    if isinstance(encoder.features, Blocks):
        return tokens(encoder.image_size // encoder.features.patch) * encoder.features.patch
    last = max(encoder.features.strides)
    steps = max(FEWEST_STEPS, round(encoder.image_size / last / STEP_SHARE))
    while steps * last < SMALLEST or (steps * last * encoder.features.grid) % encoder.image_size:
        steps += 1
    return steps * last


def grid(encoder: Encoder) -> int:
    """Tokens per side of the twin."""
    if isinstance(encoder.features, Blocks):
        return image_size(encoder) // encoder.features.patch
    return encoder.features.grid * image_size(encoder) // encoder.image_size


def tokens(side: int) -> int:
    """Tokens per side of the twin of a transformer that has ``side`` tokens per side."""
    return max(FEWEST, math.floor(side / TOKEN_SHARE + 0.5))


def _small(encoder: Encoder) -> dict[str, Any]:
    """Options that make a transformer narrow."""
    if encoder.library == "timm":
        return encoder.options | {"embed_dim": WIDTH, "num_heads": HEADS}
    if encoder.library == "open_clip":
        return encoder.options | {"width": WIDTH, "head_width": WIDTH // HEADS}
    if encoder.library == "transformers":
        sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS}
        learned = encoder.options.get("image_size")  # the image size for which positions are learned
        if isinstance(learned, int) and isinstance(encoder.features, Blocks):
            sizes["image_size"] = tokens(learned // encoder.features.patch) * encoder.features.patch
        return encoder.options | sizes
    raise UserError(
        f"{encoder.file}: key 'library': a rehearsal cannot make networks of '{encoder.library}' small; add a rule to "
        "foundad/rehearsal/encoders.py"
    )


def _narrow(encoder: Encoder) -> tuple[dict[str, Any], list[int]]:
    """Options of a convolutional network and the channels of its stages. Only ResNets become narrow."""
    import timm
    import torch

    assert isinstance(encoder.features, Stages)
    options: dict[str, Any] = encoder.options | ({"channels": NARROW} if "resnet" in encoder.model else {})
    with torch.device("meta"):
        network: Any = timm.create_model(encoder.model, **options)
    by_stride: dict[int, int] = {stage["reduction"]: stage["num_chs"] for stage in network.feature_info}
    return options, [by_stride[stride] for stride in encoder.features.strides]
