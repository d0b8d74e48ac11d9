"""Keys of :mod:`foundad.detection.shared.training`, in their own file because settings are read without torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from foundad.config.base import Fraction, Strict

Order = Literal["continued", "drop-last"]
RateSchedule = Literal["constant", "step", "cosine", "cosine-warmup", "cosine-warmup-from-zero"]


class Optimisation(Strict):
    """How a network is optimised: batches, learning rate, and a fixed number of steps, without early stopping."""

    steps: int | None = Field(2000, ge=1, description="optimiser steps, the same for every number of shots")
    epochs: int | None = Field(
        None,
        ge=1,
        description="instead of steps: epochs of floor(images / batch size) steps; support views count as images",
    )
    order: Order = Field(
        "continued", description="drop-last leaves out the rest of an epoch that fills no batch (released code)"
    )
    batch_size: int = Field(8, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: RateSchedule = "constant"
    final_rate: Fraction = Field(0.1, description="share of the rate at which a cosine schedule ends")
    step_length: int = Field(300, ge=1, description="steps after which the schedule 'step' multiplies by step_factor")
    step_factor: float = Field(0.1, gt=0)
    warmup: int = Field(100, ge=1, description="steps of rising rate in the schedules with a warm-up")
    weight_decay: float = Field(1e-4, ge=0)

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("key 'training.steps': give either steps or epochs and set the other to null")
        return self

    def budget(self, images: int) -> int:
        """Optimiser steps for ``images`` images; 0 if epochs are counted and the images fill no batch."""
        return self.steps if self.steps is not None else (self.epochs or 0) * (images // self.batch_size)


class Training(Optimisation):
    """How a network is trained on pairs of clean and damaged tokens."""

    pairs: Literal["bank", "fresh"] = Field(
        "bank", description="bank: pairs encoded once; fresh: images augmented anew at every step (as published)"
    )
    loss: Literal["l2", "smooth-l1"] = "l2"
    feature_dropout: float = Field(0.2, ge=0, lt=1)
    synthetic_probability: Fraction = Field(0.5, description="sigma of the paper: share of synthetic inputs")
    gate: Literal["image", "batch"] = Field("image", description="one coin per image (paper) or batch (released code)")
