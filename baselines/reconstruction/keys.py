"""Keys that INP-Former and Dinomaly share; read without torch when configs are validated and runs are planned.

The defaults are those of both published codes. Their networks are as wide as the tokens.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from foundad.config.method import Method
from foundad.detection.shared.training_settings import Optimisation, Order, RateSchedule
from foundad.errors import UserError

if TYPE_CHECKING:
    from foundad.config.encoder import Encoder, Layer

HEAD_WIDTH = 64  # 768 channels in 12 heads, as published
BACKWARD = 3  # operations of a training step, in forward passes


class Schedule(Optimisation):
    """Budget and learning rate of the two papers, with StableAdamW and its clipped gradient."""

    steps: int | None = Field(None, ge=1, description="optimiser steps, the same for every number of shots")
    epochs: int | None = Field(
        200,
        ge=1,
        description="instead of steps: epochs of floor(images / batch size) steps; support views count as images",
    )
    order: Order = "drop-last"
    batch_size: int = Field(16, ge=1)
    schedule: RateSchedule = "cosine-warmup-from-zero"
    gradient_norm: float = Field(0.1, gt=0, description="longest gradient of all weights together; a longer one is cut")


class Reconstruction(Method):
    """A bottleneck and a decoder that reconstruct patch tokens; what they fail to reconstruct is anomalous."""

    depth: int = Field(
        8, ge=2, multiple_of=2, description="blocks of the decoder, half of them for each group of layers"
    )
    heads: int | None = Field(
        None, ge=1, description="absent = as many heads as divide the channels, of at least 64 channels"
    )
    mlp_ratio: float = Field(4.0, gt=0)
    training: Schedule = Schedule()
    map_size: int = Field(
        392, ge=1, description="side in pixels of the anomaly map, before it is resized to score_size"
    )
    window: int | None = Field(
        None, ge=1, description="side in pixels of the window that smooths the map of the image score; absent = none"
    )
    window_deviation: float = Field(4.0, gt=0, description="standard deviation of the window's Gaussian in pixels")

    @property
    def uses_device(self) -> bool:
        """Training and scoring use torch."""
        return True

    def numbers(self, drawn: int, encoder: "Encoder") -> float:
        """The weights of the network."""
        return float(self.weights(width_of(encoder.layers)))

    def weights(self, width: int) -> int:
        """Number of weights of a network of ``width`` channels."""
        raise NotImplementedError

    def products(self, width: int) -> int:
        """Multiplications per token in a forward pass, about: one per weight unless a subclass knows better."""
        return self.weights(width)

    def block_weights(self, width: int) -> int:
        """Weights of a block: four square products with biases, two norms and an MLP."""
        return 4 * width * (width + 1) + 4 * width + self.mlp_weights(width)

    def mlp_weights(self, width: int) -> int:
        """Weights of an MLP with biases."""
        hidden = int(width * self.mlp_ratio)
        return 2 * width * hidden + width + hidden

    def operations(self, drawn: int, tested: int, categories: int, encoder: "Encoder") -> float:
        """A multiplication and an addition for each of the :meth:`products`, thrice in training."""
        parts = categories if self.scope == "category" else 1
        steps = parts * self.training.budget(drawn * self.bank.views // parts)
        images = BACKWARD * steps * self.training.batch_size + tested
        return 2.0 * self.products(width_of(encoder.layers)) * images * encoder.grid**2

    def heads_for(self, width: int) -> int:
        """Attention heads of a network of ``width`` channels: 12 at 768, as published.

        Raises:
            UserError: the key ``heads`` does not divide them.
        """
        if self.heads and width % self.heads:
            raise UserError(f"{self.file}: key 'heads': {self.heads} does not divide the encoder's {width} channels")
        if self.heads:
            return self.heads
        return max(heads for heads in range(1, max(1, width // HEAD_WIDTH) + 1) if width % heads == 0)

    def quick(self) -> Self:
        """The same method with forty steps of a short decoder."""
        training = self.training.model_copy(
            update={"steps": 40, "epochs": None, "order": "continued", "warmup": 2, "batch_size": 4}
        )
        return self.model_copy(update={"training": training, "depth": 2})

    @model_validator(mode="after")
    def _window_has_a_map(self) -> Self:
        if self.window is not None and (self.score_size is None or (self.top_share is None and self.top_k is None)):
            raise ValueError("key 'window': the image score of a smoothed map needs score_size and top_share or top_k")
        if self.window is not None and self.window % 2 == 0:
            raise ValueError(f"key 'window': {self.window} is even; choose {self.window + 1}")
        return self


def width_of(layers: Sequence["Layer"]) -> int:
    """Channels of the network for tokens of ``layers``: those of one layer if all have equally many, else of all."""
    channels = [layer.channels for layer in layers]
    return channels[0] if len(set(channels)) == 1 else sum(channels)
