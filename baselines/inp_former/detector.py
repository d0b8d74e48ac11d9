"""INP-Former (Luo et al., CVPR 2025, arXiv 2503.02424): a picture is reconstructed from its own normal prototypes."""

import torch
from torch import Tensor

from baselines.inp_former.network import Network, coherence_loss
from baselines.inp_former.settings import Settings
from baselines.reconstruction.losses import mined_cosine_loss, soft_mining
from baselines.reconstruction.network import Groups
from baselines.reconstruction.trained import Trained
from foundad.detection.shared.training import Images
from foundad.device import arithmetic


class Detector(Trained):
    """The detector of the method ``inp-former`` and its variants."""

    settings: Settings

    def build(self, groups: Groups, generator: torch.Generator | None) -> Network:
        """Extractor, bottleneck and decoder."""
        return Network(groups, self.settings, generator)

    def loss(self, network: Network, batch: Images, dropout: torch.Generator) -> Tensor:
        """Soft mining loss of the reconstruction, and the weighted coherence loss."""
        fused = network.groups.fused(batch.tokens)
        with arithmetic(self.device, self.precision):
            prototypes = network.extractor(fused, batch.inside)
            outputs = network.decode(fused, prototypes)
        reconstructed = [found.to(fused.dtype) for found in network.groups.reconstructed(outputs)]
        loss = mined_cosine_loss(
            network.groups.targets(batch.tokens),
            reconstructed,
            lambda distances, inside: soft_mining(distances, inside, self.settings.mining_power),
            batch.inside,
        )
        return loss + self.settings.coherence * coherence_loss(fused, prototypes.to(fused.dtype), batch.inside)
