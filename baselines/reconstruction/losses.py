"""The loss of both methods: one cosine per picture and group, with a gradient that is weighted by how hard a patch is.

The weights leave the loss as it is. They only scale the gradient of each reconstructed patch. Both are written as the
published codes have them: soft mining of INP-Former, hard mining of Dinomaly.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Weighting = Callable[[Tensor, Tensor | None], Tensor]
SMALLEST = 1e-8  # mean distance; rounding alone gives about so much in float32


def mined_cosine_loss(
    targets: Sequence[Tensor], reconstructed: Sequence[Tensor], weighting: Weighting, inside: Tensor | None = None
) -> Tensor:
    """Mean over groups and pictures of one minus the cosine of the whole picture's tokens; a scalar.

    Args:
        targets: [B,N,C] per group; no gradient flows into them.
        reconstructed: [B,N,C] per group. Their gradients are multiplied by the weights, patch by patch.
        weighting: weights [B,N] of patches, from their distances [B,N] and ``inside``.
        inside: [B,N] bool, patches that show the picture; None = all. The others have no part in anything.
    """
    losses = []
    for wanted, found in zip(targets, reconstructed, strict=True):
        wanted = wanted.detach()
        weights = weighting(patch_distances(wanted, found.detach()), inside)
        if inside is not None:
            weights = weights * inside
            wanted, found = wanted * inside[:, :, None], found * inside[:, :, None]
        if found.requires_grad:
            found.register_hook(_scaled_by(weights))
        losses.append((1 - F.cosine_similarity(wanted.flatten(1), found.flatten(1), dim=1)).mean())
    return torch.stack(losses).mean()


def patch_distances(targets: Tensor, reconstructed: Tensor) -> Tensor:
    """One minus the cosine of every patch, [B,N,C] x 2 -> [B,N]."""
    return 1 - F.cosine_similarity(targets, reconstructed, dim=2)


def soft_mining(distances: Tensor, inside: Tensor | None, power: float) -> Tensor:
    """INP-Former's weights [B,N]: the distance over its mean in the batch, to the ``power`` (published: 3)."""
    mean = (distances if inside is None else distances[inside]).mean()
    return (distances / mean.clamp(min=SMALLEST)) ** power


def hard_mining(distances: Tensor, inside: Tensor | None, share: float, factor: float) -> Tensor:
    """Dinomaly's weights [B,N]: ``factor`` for the ``share`` of patches with the smallest distances, 1 for the others."""
    values = distances.flatten() if inside is None else distances[inside]
    kept = max(1, int(len(values) * (1 - share)))
    threshold = torch.topk(values, kept).values[-1]
    return torch.ones_like(distances).masked_fill(distances < threshold, factor)


def _scaled_by(weights: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient * weights[:, :, None]
