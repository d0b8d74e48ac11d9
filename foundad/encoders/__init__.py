"""Frozen encoders: images in, patch tokens out; one file a library, chosen by the config's key ``library``."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from foundad.config import Encoder
from foundad.device import ON_CPU, Compute

if TYPE_CHECKING:  # torch is imported when an encoder is built
    from torch import nn

    from foundad.encoders.base import FrozenEncoder


def build_encoder(settings: Encoder, compute: Compute = ON_CPU) -> "FrozenEncoder":
    """The encoder that ``settings`` describe, weights loaded, on the device of ``compute``, in evaluation mode.

    Raises:
        UserError: the weights are not the expected ones, or the model is not as the config says.
        MachineError: the weights are not on this machine; nothing is downloaded here.
    """
    from foundad.encoders.base import FrozenEncoder

    return FrozenEncoder(settings, build_network(settings), compute.precision, compute.compiled).to(compute.device)


def build_network(settings: Encoder) -> "nn.Module":
    """The network of ``settings``: a module from normalised images [B,3,S,S] to patch tokens [B,N,D]."""
    # A library is imported when one of its encoders is built.
    if settings.library == "concatenation":
        from foundad.encoders.concatenation import Concatenation

        return Concatenation(settings, [build_network(part) for part in settings.parts])
    build: Callable[[Encoder], nn.Module]
    if settings.library == "timm":
        from foundad.encoders.timm_encoder import build
    elif settings.library == "open_clip":
        from foundad.encoders.open_clip_encoder import build
    else:
        from foundad.encoders.transformers_encoder import build
    return build(settings)
