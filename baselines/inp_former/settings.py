"""Keys of INP-Former; read without torch when configs are validated and runs are planned."""

from typing import Literal

from pydantic import Field

from baselines.reconstruction.keys import Reconstruction


class Settings(Reconstruction):
    """INP-Former (Luo et al., CVPR 2025, arXiv 2503.02424) with its few-shot recipe."""

    detector: Literal["inp_former"] = "inp_former"
    prototypes: int = Field(6, ge=1, description="normal prototypes that are extracted from every picture")
    mining_power: float = Field(3.0, ge=0, description="of the soft mining: power of a patch's distance over the mean")
    coherence: float = Field(0.2, ge=0, description="weight of the coherence loss")

    def weights(self, width: int) -> int:
        """Prototypes, extractor, bottleneck, and a decoder that has one scale per head and block."""
        extractor = self.prototypes * width + self.block_weights(width)
        decoder = self.depth * (self.block_weights(width) + self.heads_for(width))
        return extractor + self.mlp_weights(width) + decoder

    def products(self, width: int) -> int:
        """Those of the bottleneck, the extractor's keys and values, and the decoder's queries, projections and MLPs.

        What acts on the few prototypes does not count.
        """
        mlp = self.mlp_weights(width)
        return mlp + 2 * width**2 + self.depth * (2 * width**2 + mlp)
