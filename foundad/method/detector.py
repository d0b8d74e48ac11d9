"""FoundAD: trains the projector to map damaged patch tokens to clean ones, and scores by the projector's residual.

Paper section 3 (gate, loss, score) and section 4.1 (optimiser). It learns from clean/synthetic pairs, encoded once in a
bank, or anew at every step as published. The number of steps is fixed, nothing is selected on test data, and everything
random derives from the cell's seed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.shared.training import (
    AdamW,
    Batch,
    batches_of,
    drop_features,
    health,
    loss_curve,
    mask_on,
    minimise,
    steps_on,
    take_weights,
    weights_of,
)
from foundad.device import ON_CPU, Compute, Precision, arithmetic, compiled, float32_products
from foundad.method.projector import Projector, patch_residuals
from foundad.method.settings import Settings

SCORE_BATCH = 16
MASK_TOKEN = "mask_token"  # in the authors' checkpoints, never used; kept so that export gives the same bits


class Detector(protocol.Detector):
    """The detector of the method ``foundad`` and all its projector variants."""

    settings: Settings

    def __init__(self, settings: Settings, seed: int, compute: Compute = ON_CPU) -> None:
        super().__init__(settings, seed, compute)
        self.device = torch.device(compute.device)
        # float16 would need its loss scaled; bfloat16 has the range of float32.
        self.precision: Precision = "bfloat16" if compute.precision == "float16" else compute.precision
        self.projector: Projector | None = None
        self.mask_token: np.ndarray | None = None

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Train on pairs of ``bank``; the record holds the number of parameters, steps, loss curve and health.

        Raises:
            UserError: there are no pairs or no steps, or a loss is not finite.
            MachineError: a batch does not fit the device's memory.
        """
        training, name = self.settings.training, self.settings.id
        steps = steps_on(bank, training, name)
        _, patches, channels = bank.normal.shape
        projector = self.projector = self._build(patches, channels, torch.Generator().manual_seed(self.seed))
        optimiser = AdamW(projector.parameters(), training.weight_decay)
        batches = batches_of(bank, training, torch.Generator().manual_seed(self.seed + 1), self._tokens)
        dropout = torch.Generator(self.device).manual_seed(self.seed + 2)
        project = compiled(projector) if self.compute.compiled else projector

        def loss_of(batch: Batch) -> Tensor:
            inputs = drop_features(batch.inputs, training.feature_dropout, dropout)
            with arithmetic(self.device, self.precision):
                predicted = project(inputs, batch.inside)
            predicted, target = predicted.float(), batch.clean
            if batch.inside is not None:
                predicted, target = predicted[batch.inside], target[batch.inside]
            return projection_loss(predicted, target, training.loss)

        projector.train()
        with float32_products(self.device, self.precision):  # of the backward pass as well
            losses = minimise(loss_of, batches, optimiser, training, steps, name)
        projector.eval()
        seen = steps * training.batch_size if training.pairs == "fresh" else None
        return {
            "parameters": sum(p.numel() for p in projector.parameters()),
            "steps": steps,
            "losses": loss_curve(losses),
            "health": health(bank, lambda tokens, inside: self.score_images(tokens, inside)[0], seen),
        }

    @torch.inference_mode()
    def score_images(self, tokens: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, None]:
        """Mean squared residual of every patch, [B,N] float32, of tokens [B,N,D].

        No patch attends to padding, the patches that are not ``inside`` [B,N].
        """
        assert self.projector is not None, "fit or restore first"
        scores = []
        for start in range(0, len(tokens), SCORE_BATCH):
            rows = slice(start, start + SCORE_BATCH)
            batch = self._tokens(tokens[rows])
            with arithmetic(self.device, self.precision):
                predicted = self.projector(batch, mask_on(self.device, None if inside is None else inside[rows]))
            scores.append(patch_residuals(predicted.float(), batch).cpu().numpy())
        return np.concatenate(scores), None

    def state(self) -> dict[str, np.ndarray]:
        """The projector's weights under their state-dict names."""
        assert self.projector is not None, "fit or restore first"
        state = weights_of(self.projector)
        return state if self.mask_token is None else {MASK_TOKEN: self.mask_token} | state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Rebuild the projector from its weights."""
        self.mask_token = state.get(MASK_TOKEN)
        position = state.get("position_embedding")
        self.projector = self._build(0 if position is None else position.shape[1], state["embed.weight"].shape[1], None)
        take_weights(self.projector, {name: array for name, array in state.items() if name != MASK_TOKEN})

    def _build(self, tokens: int, channels: int, generator: torch.Generator | None) -> Projector:
        settings = self.settings
        return Projector(channels, tokens, settings.projector, settings.normalise_tokens, generator).to(self.device)

    def _tokens(self, tokens: np.ndarray) -> Tensor:
        # A copy in torch's aligned memory: on a CPU the last bits of a product depend on its operands' alignment.
        result = torch.from_numpy(np.ascontiguousarray(tokens)).clone().to(self.device, torch.float32)
        return F.normalize(result, dim=-1) if self.settings.normalise_tokens else result


def projection_loss(predicted: Tensor, target: Tensor, loss: str) -> Tensor:
    """Mean over batch, patches and channels of the squared or smooth-L1 (beta 1) residual (paper eq. of section 3.3)."""
    return F.mse_loss(predicted, target) if loss == "l2" else F.smooth_l1_loss(predicted, target)
