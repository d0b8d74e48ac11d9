"""Dinomaly (Guo et al., CVPR 2025, arXiv 2405.14325): a noisy decoder reconstructs groups of layers loosely."""

import torch
from torch import Tensor

from baselines.dinomaly.network import Network
from baselines.dinomaly.settings import Settings
from baselines.reconstruction.losses import hard_mining, mined_cosine_loss
from baselines.reconstruction.network import Groups
from baselines.reconstruction.trained import Trained
from foundad.detection.shared.training import Images
from foundad.device import arithmetic


class Detector(Trained):
    """The detector of the method ``dinomaly`` and its variants."""

    settings: Settings

    def build(self, groups: Groups, generator: torch.Generator | None) -> Network:
        """Bottleneck and decoder."""
        return Network(groups, self.settings, generator)

    def loss(self, network: Network, batch: Images, dropout: torch.Generator) -> Tensor:
        """Hard mining loss of the reconstruction."""
        settings, groups = self.settings, network.groups
        share = min(settings.easy_share * batch.step / settings.easy_ramp, settings.easy_share)
        with arithmetic(self.device, self.precision):
            outputs = network(groups.fused(batch.tokens), batch.inside, dropout)
        return mined_cosine_loss(
            groups.targets(batch.tokens),
            [found.to(batch.tokens.dtype) for found in groups.reconstructed(outputs)],
            lambda distances, inside: hard_mining(distances, inside, share, settings.easy_factor),
            batch.inside,
        )
