"""The projector, the only trained part of FoundAD: it maps damaged patch tokens to clean ones.

Paper section 3, with the sizes and the long skip of the released code: the embedded input is added again after every
block. Used in training and in scoring; it knows neither images nor encoders.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foundad.method.settings import Projector as ProjectorSettings

NORM_EPSILON = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention with biases: [B,N,C] -> [B,N,C]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        B, N, C = tokens.shape
        # Unbound before the transpose, so that the backward pass joins their gradients without another copy.
        parts = self.qkv(tokens).view(B, N, 3, self.heads, C // self.heads).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in parts)
        mixed = attention(q, k, v, inside)
        return self.proj(mixed.transpose(1, 2).reshape(B, N, C))


def attention(q: Tensor, k: Tensor, v: Tensor, inside: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of [B,H,N,C] tensors, in the form that is fastest on their device.

    ``inside`` [B,N] bool: tokens that are attended to; None = all.
    In training in bfloat16 on a CPU the plain form is fastest: its products run at twice the speed of float32, and the
    backward pass of torch's fused kernel is slow (benchmarks/training_step.py). The plain form keeps the weights for the
    backward pass, B * H * N^2 * 2 bytes per block.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or not q.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, None if inside is None else inside[:, None, None])
    with torch.autocast("cpu", enabled=False):  # autocast would make the weights float32
        products = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-2, -1))
        if inside is not None:
            products = products.masked_fill(~inside[:, None, None], -torch.inf)
        return torch.matmul(products.softmax(dim=-1), v)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them: [B,N,C] -> [B,N,C]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """A pre-norm residual block of attention and MLP, or of the MLP alone if ``heads`` is None."""

    def __init__(self, width: int, heads: int | None, mlp_ratio: float) -> None:
        super().__init__()
        if heads is not None:
            self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
            self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        if hasattr(self, "attn"):
            tokens = tokens + self.attn(self.norm1(tokens), inside)
        return tokens + self.mlp(self.norm2(tokens))


class Projector(nn.Module):
    """Linear embedding, blocks with a long skip from the embedding, LayerNorm, linear head.

    Args:
        channels: D of the encoder's patch tokens.
        tokens: N; only the position embedding uses it.
        settings: type, depth, width, heads, MLP ratio, position embedding.
        normalise: L2-normalise every output token.
        generator: of the initial values; None = torch's global one.
    """

    def __init__(
        self,
        channels: int,
        tokens: int,
        settings: ProjectorSettings,
        normalise: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        width, heads = settings.width_for(channels), settings.heads_for(channels)
        self.normalise = normalise
        self.embed = nn.Linear(channels, width)
        self.position_embedding = nn.Parameter(torch.zeros(1, tokens, width)) if settings.position_embedding else None
        self.blocks = nn.ModuleList(Block(width, heads, settings.mlp_ratio) for _ in range(settings.depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.head = nn.Linear(width, channels)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator | None) -> None:
        """Truncated normal weights with deviation 0.02 and zero biases, as in the released code's wrapper."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                nn.init.zeros_(module.bias)
        if self.position_embedding is not None:
            nn.init.trunc_normal_(self.position_embedding, std=0.02, generator=generator)

    def forward(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        """Predicted clean patch tokens [B,N,D] of ``tokens`` [B,N,D].

        ``inside`` [B,N] bool: tokens that show the picture; None = all. The others are padding, and no token attends to
        them.
        """
        embedded = self.embed(tokens)
        if self.position_embedding is not None:
            embedded = embedded + self.position_embedding
        hidden = embedded
        for block in self.blocks:
            hidden = block(hidden, inside) + embedded
        output = self.head(self.norm(hidden))
        return F.normalize(output, dim=-1) if self.normalise else output


def patch_residuals(predicted: Tensor, tokens: Tensor) -> Tensor:
    """Anomaly score of every patch: mean over channels of the squared residual, [B,N,D] x 2 -> [B,N] (section 3)."""
    return (predicted - tokens).square().mean(dim=-1)
