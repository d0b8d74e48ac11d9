"""INP-Former's network: extracts normal prototypes from a picture and reconstructs it from them alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.inp_former.settings import Settings
from baselines.reconstruction.network import Groups, Mlp, initialise, join_heads, norm, split_heads
from baselines.reconstruction.trained import Reconstructor


class Extractor(nn.Module):
    """Learned queries that attend to all tokens of a picture: [B,N,W] -> its prototypes [B,M,W]."""

    def __init__(self, prototypes: int, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Parameter(torch.empty(prototypes, width))
        self.norm1, self.norm2 = norm(width), norm(width)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = Mlp(width, mlp_ratio)

    def forward(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        queries = self.queries.repeat(len(tokens), 1, 1)
        q = self.q(self.norm1(queries))
        k, v = self.kv(self.norm1(tokens)).chunk(2, dim=2)
        q, k, v = (split_heads(part, self.heads) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, None if inside is None else inside[:, None, None])
        found = queries + self.proj(join_heads(mixed))
        return found + self.mlp(self.norm2(found))


class Block(nn.Module):
    """A decoder block whose keys and values are the prototypes. Its attention has no residual, so that nothing passes by."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = norm(width), norm(width)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.scale = nn.Parameter(torch.ones(heads, 1, 1))
        self.proj = nn.Linear(width, width)
        self.mlp = Mlp(width, mlp_ratio)

    def forward(self, tokens: Tensor, prototypes: Tensor) -> Tensor:
        q = self.q(self.norm1(tokens))
        k, v = self.kv(self.norm1(prototypes)).chunk(2, dim=2)
        q, k, v = (split_heads(part, self.heads) for part in (q, k, v))
        cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        mixed = self.proj(join_heads(F.relu(cosines * self.scale) @ v))
        return mixed + self.mlp(self.norm2(mixed))


class Network(Reconstructor):
    """Extractor, bottleneck MLP and decoder.

    Args:
        groups: of the tokens' layers.
        settings: prototypes, depth, heads, MLP ratio.
        generator: of the initial values; None = torch's global one.
    """

    def __init__(self, groups: Groups, settings: Settings, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.groups = groups
        width, heads, ratio = groups.width, settings.heads_for(groups.width), settings.mlp_ratio
        self.extractor = Extractor(settings.prototypes, width, heads, ratio)
        self.bottleneck = Mlp(width, ratio)
        self.decoder = nn.ModuleList(Block(width, heads, ratio) for _ in range(settings.depth))
        initialise(self, generator)
        nn.init.normal_(self.extractor.queries, generator=generator)

    def forward(self, fused: Tensor, inside: Tensor | None = None) -> list[Tensor]:
        """Outputs [B,N,W] of the decoder's blocks, of fused tokens [B,N,W].

        ``inside`` [B,N] bool: tokens that show the picture, from which prototypes are extracted; None = all.
        """
        return self.decode(fused, self.extractor(fused, inside))

    def decode(self, fused: Tensor, prototypes: Tensor) -> list[Tensor]:
        """As :meth:`forward`, from the picture's ``prototypes`` [B,M,W]."""
        outputs = [self.bottleneck(fused)]
        for block in self.decoder:
            outputs.append(block(outputs[-1], prototypes))
        return outputs[1:]


def coherence_loss(fused: Tensor, prototypes: Tensor, inside: Tensor | None = None) -> Tensor:
    """Mean over tokens [B,N,W] of one minus the cosine to the nearest prototype [B,M,W]; a scalar."""
    cosines = F.normalize(fused, dim=2, eps=1e-8) @ F.normalize(prototypes, dim=2, eps=1e-8).transpose(1, 2)
    distances = (1 - cosines).amin(dim=2)
    return (distances if inside is None else distances[inside]).mean()
