"""Parts of reconstruction networks: groups of layers, MLPs, the initial weights. Tokens are [B,N,W] with W channels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.reconstruction.keys import width_of
from foundad.config.encoder import Layer

NORM_EPSILON = 1e-8  # both published codes
DEVIATION, CUT = 0.01, 0.03  # of the initial weights


class Groups:
    """Which channels of a token are reconstructed together: its first layers, and its last (both papers, two groups).

    Layers with equally many channels are averaged, as published. Others, such as convolutional stages, stay side by
    side. A single layer is a single group.

    Args:
        layers: of the encoder, the shallow ones first.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.channels = [layer.channels for layer in layers]
        self.width = width_of(layers)
        self.equal = len(set(self.channels)) == 1
        middle = len(layers) // 2
        self.halves = [range(middle), range(middle, len(layers))] if middle else [range(len(layers))]

    def fused(self, tokens: Tensor) -> Tensor:
        """What the network reads of tokens [B,N,D]: the mean of the layers, or all channels, [B,N,W]."""
        return self._mean(tokens.split(self.channels, dim=2)) if self.equal else tokens

    def targets(self, tokens: Tensor) -> list[Tensor]:
        """What is to be reconstructed of tokens [B,N,D]: [B,N,C] per group, C its channels."""
        layers = tokens.split(self.channels, dim=2)
        groups = [[layers[number] for number in half] for half in self.halves]
        return [self._mean(group) if self.equal else torch.cat(group, dim=2) for group in groups]

    def reconstructed(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """The reconstruction [B,N,C] of each group, from the outputs [B,N,W] of the decoder's blocks in their order.

        The last blocks reconstruct the first layers.
        """
        backwards = list(outputs)[::-1]
        count = len(backwards) // len(self.halves)
        found = []
        for number, half in enumerate(self.halves):
            mean = self._mean(backwards[number * count : (number + 1) * count])
            start, end = sum(self.channels[: half.start]), sum(self.channels[: half.stop])
            found.append(mean if self.equal else mean[:, :, start:end])
        return found

    @staticmethod
    def _mean(tensors: Sequence[Tensor]) -> Tensor:
        return tensors[0] if len(tensors) == 1 else torch.stack(list(tensors)).mean(dim=0)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them: [B,N,W] -> [B,N,W]."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, int(width * ratio))
        self.fc2 = nn.Linear(int(width * ratio), width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """[B,N,W] -> [B,H,N,W/H]."""
    B, N, W = tokens.shape
    return tokens.view(B, N, heads, W // heads).transpose(1, 2)


def join_heads(tokens: Tensor) -> Tensor:
    """[B,H,N,W/H] -> [B,N,W]."""
    return tokens.transpose(1, 2).flatten(2)


def norm(width: int) -> nn.LayerNorm:
    """LayerNorm as both papers use it."""
    return nn.LayerNorm(width, eps=NORM_EPSILON)


def initialise(network: nn.Module, generator: torch.Generator | None) -> None:
    """Set linear weights to a truncated normal of deviation 0.01, cut at 0.03, and biases to zero (both codes)."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=DEVIATION, a=-CUT, b=CUT, generator=generator)
            nn.init.zeros_(module.bias)
