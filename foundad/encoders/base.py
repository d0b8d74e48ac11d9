"""What every encoder is to the rest of the harness: a frozen module from pictures to patch tokens.

Stands between decoded pictures and the stages ``features`` and ``bank``. It does not read files and does not know the
library that a network comes from.
"""

import numpy as np
import torch
from torch import Tensor, nn

from foundad.config import Encoder
from foundad.errors import UserError


class FrozenEncoder(nn.Module):
    """A frozen network with the normalisation of its images and a check of its tokens.

    Args:
        settings: the encoder's config.
        network: normalised images [B,3,S,S] to patch tokens [B,N,D], see the files of the libraries.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Encoder, network: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.network = network.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(settings.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stays in evaluation mode whatever is asked: the encoder is frozen."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where images must be."""
        return self.mean.device

    def normalise(self, images: np.ndarray) -> Tensor:
        """uint8 RGB images [B,S,S,3] as a normalised float32 tensor [B,3,S,S] on the encoder's device."""
        pixels = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        pixels = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        return (pixels.float() / 255 - self.mean) / self.std

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Patch tokens of normalised images.

        Args:
            images: [B,3,S,S] float32, S = ``settings.image_size``, normalised with ``settings.mean`` and ``std``.

        Returns:
            [B,N,D] float32, N = ``settings.grid**2`` row by row, D = ``settings.channels``; no class or register token.
        """
        tokens: Tensor = self.network(images)
        wanted = (self.settings.grid**2, self.settings.channels)
        if tuple(tokens.shape[1:]) != wanted:
            raise UserError(
                f"config/encoders/{self.settings.id}.yaml: the model gives {tokens.shape[1]} tokens of "
                f"{tokens.shape[2]} channels, the config says {wanted[0]} of {wanted[1]}; "
                "mend image_size, features or channels"
            )
        return tokens.float()
