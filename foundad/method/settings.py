"""Keys of FoundAD; read without torch when configs are validated and runs are planned."""

import math
from typing import Literal

from pydantic import Field, model_validator

from foundad.config.base import Strict
from foundad.config.method import Method, Need
from foundad.detection.shared.training_settings import Training

HEAD_WIDTH = 32  # 384 channels in 12 heads, as published


class Projector(Strict):
    """The trained projector (paper section 3; sizes of the released code)."""

    type: Literal["vit", "mlp"] = "vit"
    depth: int = Field(6, ge=1)
    width: int | None = Field(
        None, ge=1, description="absent = half the encoder's channels to the nearest multiple of 32 (384 at 768)"
    )
    heads: int | None = Field(None, ge=1, description="absent = heads of 32 channels (12 at width 384)")
    mlp_ratio: float = Field(4.0, gt=0)
    position_embedding: bool = False

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "Projector":
        if self.heads and self.width and self.width % self.heads:
            raise ValueError(f"key 'projector.heads': {self.heads} does not divide the width {self.width}")
        return self

    def width_for(self, channels: int) -> int:
        """Channels inside the projector, for tokens of ``channels`` channels."""
        return self.width or default_width(channels, self.heads)

    def heads_for(self, channels: int) -> int | None:
        """Attention heads for tokens of ``channels`` channels; None = no attention."""
        if self.type == "mlp":
            return None
        return self.heads or max(1, self.width_for(channels) // HEAD_WIDTH)


def default_width(channels: int, heads: int | None = None) -> int:
    """Half the encoder's channels to the nearest multiple of 32 (or of 32 and ``heads``); 384 at the published 768."""
    multiple = math.lcm(HEAD_WIDTH, heads or 1)
    return max(1, round(channels / 2 / multiple)) * multiple


class Settings(Method):
    """FoundAD and its projector variants."""

    detector: Literal["foundad"] = "foundad"
    projector: Projector = Projector()
    training: Training = Training()
    normalise_tokens: bool = Field(False, description="L2-normalise the tokens and the projector's output")

    @property
    def needs(self) -> frozenset[Need]:
        """The features, and the bank; for fresh pairs the drawn images instead of the bank."""
        return frozenset({"images" if self.training.pairs == "fresh" else "bank", "features"})

    @property
    def uses_device(self) -> bool:
        """FoundAD trains and scores with torch."""
        return True

    def passes(self, drawn: int, steps: int = 0) -> int:
        """Those of the bank; for fresh pairs the drawn images, and per step a clean batch and its damaged pictures."""
        if self.training.pairs == "bank":
            return super().passes(drawn, steps)
        pictures = steps * self.training.batch_size * (1 + self.training.synthetic_probability)
        return drawn * self.bank.views + round(pictures)

    def quick(self) -> "Settings":
        """The same method with thirty steps of a narrow projector."""
        training = self.training.model_copy(update={"steps": 30, "epochs": None, "order": "continued"})
        projector = self.projector.model_copy(update={"width": 32, "heads": None})
        return self.model_copy(update={"training": training, "projector": projector})
