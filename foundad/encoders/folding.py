"""Folds batch normalisation into the convolutions before it: a frozen network computes the same in fewer passes.

Used when an encoder is built. Batch normalisation in evaluation mode is one affine map per channel, so the weights of
the convolution before it can include it (about two fifths of EfficientNet-Lite's time on a CPU).
"""

import copy
import itertools

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 1e-3  # share of the largest output; folding changes only the rounding


@torch.no_grad()
def fold_batch_norms(network: nn.Module, image_size: int) -> nn.Module:
    """A copy of ``network`` (in evaluation mode) with every foldable pair folded.

    A pair is a convolution and the batch normalisation registered right after it in the same parent, with as many
    features as the convolution has outputs. The modules do not say whether the two are also called one after the other,
    so a picture of noise goes through both networks; if their outputs differ, ``network`` itself is returned.
    """
    folded = copy.deepcopy(network)
    pairs = [(parent, *pair) for parent in folded.modules() for pair in _pairs(parent)]
    if not pairs:
        return network
    for parent, convolution, norm in pairs:
        old = getattr(parent, norm)
        setattr(parent, convolution, fuse_conv_bn_eval(getattr(parent, convolution), old))
        # timm's BatchNormAct2d holds the activation, which stays; a plain normalisation is removed.
        setattr(parent, norm, getattr(old, "act", None) or nn.Identity())
    noise = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    before, after = network(noise), folded(noise)
    return folded if torch.allclose(before, after, rtol=0, atol=TOLERANCE * float(before.abs().max())) else network


def _pairs(parent: nn.Module) -> list[tuple[str, str]]:
    children = list(parent.named_children())
    return [
        (name, next_name)
        for (name, child), (next_name, following) in itertools.pairwise(children)
        if isinstance(child, nn.Conv2d)
        and isinstance(following, nn.BatchNorm2d)
        and following.num_features == child.out_channels
        and following.track_running_stats
    ]
