"""Frozen encoders: images in, patch tokens out; one file a library, chosen by the config's key ``library``."""

from foundad.config import Encoder
from foundad.encoders.base import FrozenEncoder


def build_encoder(settings: Encoder, device: str = "cpu") -> FrozenEncoder:
    """The encoder that ``settings`` describe, weights loaded, on ``device``, in evaluation mode.

    Raises:
        UserError: the weights are missing or not the expected ones, or the model is not as the config says.
    """
    from foundad.encoders import timm_encoder

    builders = {"timm": timm_encoder.build}
    return builders[settings.library](settings).to(device)
