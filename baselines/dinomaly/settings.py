"""Keys of Dinomaly; read without torch when configs are validated and runs are planned."""

from typing import Literal

from pydantic import Field

from baselines.reconstruction.keys import Reconstruction, Schedule
from foundad.config.base import Fraction


class DinomalySchedule(Schedule):
    """That of INP-Former at twice the rate."""

    learning_rate: float = Field(2e-3, gt=0)


class Settings(Reconstruction):
    """Dinomaly (Guo et al., CVPR 2025, arXiv 2405.14325)."""

    detector: Literal["dinomaly"] = "dinomaly"
    training: DinomalySchedule = DinomalySchedule()
    dropout: float = Field(0.2, ge=0, lt=1, description="of the bottleneck: at its input, inside and at its output")
    easy_share: Fraction = Field(0.9, description="share of the patches, the best reconstructed, that hardly count")
    easy_ramp: int = Field(1000, ge=1, description="steps in which this share rises from zero")
    easy_factor: Fraction = Field(0.1, description="factor of the gradients of these patches")

    def weights(self, width: int) -> int:
        """Bottleneck and decoder."""
        return self.mlp_weights(width) + self.depth * self.block_weights(width)
