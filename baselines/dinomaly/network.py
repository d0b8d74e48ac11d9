"""Dinomaly's network: a noisy bottleneck, and a decoder of linear attention that cannot focus."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.dinomaly.settings import Settings
from baselines.reconstruction.network import Groups, Mlp, initialise, join_heads, norm, split_heads
from baselines.reconstruction.trained import Reconstructor
from foundad.detection.shared.training import drop_features

SMALLEST = 1e-30


class Block(nn.Module):
    """A pre-norm residual block of linear attention with the feature map elu + 1, and an MLP: [B,N,W] -> [B,N,W]."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = norm(width), norm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = Mlp(width, mlp_ratio)

    def forward(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(self.norm1(tokens)).chunk(3, dim=2))
        tokens = tokens + self.proj(join_heads(linear_attention(q, k, v, inside)))
        return tokens + self.mlp(self.norm2(tokens))


def linear_attention(q: Tensor, k: Tensor, v: Tensor, inside: Tensor | None = None) -> Tensor:
    """Attention of [B,H,N,C] whose weights are products of elu + 1 of queries and keys, without their N x N matrix.

    ``inside`` [B,N] bool: tokens that are attended to; None = all.
    """
    q, k = F.elu(q) + 1, F.elu(k) + 1
    if inside is not None:
        k = k * inside[:, None, :, None].to(k.dtype)
    totals = q @ k.sum(dim=2, keepdim=True).transpose(-2, -1)
    return (q @ (k.transpose(-2, -1) @ v)) / totals.clamp(min=SMALLEST)  # zero where elu + 1 of a whole query is


class Network(Reconstructor):
    """Bottleneck MLP and decoder.

    Args:
        groups: of the tokens' layers.
        settings: depth, heads, MLP ratio, dropout.
        generator: of the initial values; None = torch's global one.
    """

    def __init__(self, groups: Groups, settings: Settings, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.groups, self.dropout = groups, settings.dropout
        width, heads, ratio = groups.width, settings.heads_for(groups.width), settings.mlp_ratio
        self.bottleneck = Mlp(width, ratio)
        self.decoder = nn.ModuleList(Block(width, heads, ratio) for _ in range(settings.depth))
        initialise(self, generator)

    def forward(
        self, fused: Tensor, inside: Tensor | None = None, noise: torch.Generator | None = None
    ) -> list[Tensor]:
        """Outputs [B,N,W] of the decoder's blocks, of fused tokens [B,N,W].

        Args:
            inside: [B,N] bool, tokens that show the picture; None = all. No token attends to the others.
            noise: source of the bottleneck's dropout, on the tokens' device; None = no dropout.
        """
        hidden = F.gelu(self.bottleneck.fc1(self._dropped(fused, noise)))
        hidden = self._dropped(self.bottleneck.fc2(self._dropped(hidden, noise)), noise)
        outputs = []
        for block in self.decoder:
            hidden = block(hidden, inside)
            outputs.append(hidden)
        return outputs

    def _dropped(self, tokens: Tensor, noise: torch.Generator | None) -> Tensor:
        return tokens if noise is None else drop_features(tokens, self.dropout, noise)
