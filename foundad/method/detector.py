"""FoundAD: trains the projector to map damaged patch tokens to clean ones, and scores by its residual.

Paper section 3 (gate, loss, score) and section 4.1 (optimiser). Learns from clean/synthetic pairs, encoded once in a bank
or afresh at every step as published. The number of steps is fixed, nothing is selected on test data, and everything random
flows from the cell's seed.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from foundad.config import FoundAD
from foundad.detection.bank import BankTokens
from foundad.detection.padding import any_padding
from foundad.detection.shared.training import AdamW, drop_features, learning_rate, pair_batches
from foundad.device import ON_CPU, Compute, autocast, compiled
from foundad.errors import MachineError, UserError
from foundad.method.projector import Projector, patch_residuals
from foundad.scores import top_k_mean

SCORE_BATCH = 16
LOSS_CURVE_POINTS = 50
HEALTH_PAIRS = 16
Batch = tuple[
    Tensor, Tensor, Tensor | None
]  # targets, inputs [B,N,D], and which patches are no padding [B,N] (None = all)
MASK_TOKEN = "mask_token"  # in the authors' checkpoints, never used; carried along so that they come back bit for bit


class FoundADDetector:
    """The detector of the method ``foundad`` and all its projector variants."""

    def __init__(self, settings: FoundAD, seed: int, compute: Compute = ON_CPU) -> None:
        self.settings = settings
        self.seed = seed
        self.device = torch.device(compute.device)
        # float16 would need its loss scaled; bfloat16 has the range of float32.
        self.dtype = torch.float32 if compute.precision == "float32" else torch.bfloat16
        self.compiled = compute.compiled
        self.projector: Projector | None = None
        self.mask_token: np.ndarray | None = None

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Train on pairs of ``bank``; the record holds the loss curve and the number of parameters.

        Raises:
            UserError: there are no pairs or no steps, or the loss stops being finite.
        """
        training = self.settings.training
        count = self._steps(bank)
        _, patches, channels = bank.normal.shape
        self.projector = self._build(patches, channels, torch.Generator().manual_seed(self.seed))
        optimiser = AdamW(self.projector.parameters(), training.weight_decay)
        generator = torch.Generator().manual_seed(self.seed + 1)
        dropout = torch.Generator(self.device).manual_seed(self.seed + 2)
        losses = torch.zeros(count, device=self.device)
        batches = self._fresh_batches(bank, generator) if training.pairs == "fresh" else self._batches(bank, generator)
        steps = tqdm(range(count), desc=f"{self.settings.id}: steps", disable=None, file=sys.stderr)
        self.projector.train()
        project = compiled(self.projector) if self.compiled else self.projector
        try:
            for step, (target, inputs, inside) in zip(steps, batches, strict=False):
                inputs = drop_features(inputs, training.feature_dropout, dropout)
                with autocast(self.device, self.dtype):
                    predicted = project(inputs, inside)
                predicted = predicted.float()
                if inside is not None:
                    predicted, target = predicted[inside], target[inside]
                loss = projection_loss(predicted, target, training.loss)
                loss.backward()
                optimiser.step(learning_rate(step, count, training))
                losses[step] = loss.detach()
        except torch.OutOfMemoryError:
            raise MachineError(
                f"{self.settings.id}: out of memory at training.batch_size {training.batch_size}, which is never changed "
                "by itself; choose a smaller one, or a smaller projector or grid"
            ) from None
        self.projector.eval()
        curve = losses.cpu().numpy()
        if not np.isfinite(curve).all():
            first = int(np.flatnonzero(~np.isfinite(curve))[0])
            raise UserError(f"{self.settings.id}: the loss is not finite at step {first}; lower training.learning_rate")
        return {
            "parameters": sum(p.numel() for p in self.projector.parameters()),
            "steps": count,
            "losses": [
                round(float(part.mean()), 6) for part in np.array_split(curve, min(len(curve), LOSS_CURVE_POINTS))
            ],
            "health": self._health(bank, count),
        }

    def _health(self, bank: BankTokens, steps: int) -> dict[str, float]:
        """Mean over pairs of the image score (top 10 patches of the picture) of clean and of damaged training images."""
        if self.settings.training.pairs == "fresh":
            assert bank.fresh is not None
            images = [number % len(bank.normal) for number in range(HEALTH_PAIRS)]
            first = steps * self.settings.training.batch_size  # pictures that training has not seen
            numbers = range(first, first + HEALTH_PAIRS)
            clean, damaged, inside = bank.fresh.encode(images, numbers, [True] * HEALTH_PAIRS)
        else:
            clean, damaged = bank.clean[:HEALTH_PAIRS], bank.synthetic[:HEALTH_PAIRS]
            inside = None if bank.inside is None else any_padding(bank.inside[:HEALTH_PAIRS])
        residuals = {}
        for name, tokens in (("clean_residual", clean), ("synthetic_residual", damaged)):
            scores = self.score_images(tokens, inside)[0]
            if inside is None:
                found = np.sort(scores, axis=1)[:, -10:].mean(dtype=np.float64)
            else:
                found = top_k_mean(scores, 10, inside).mean(dtype=np.float64)
            residuals[name] = float(found)
        return residuals

    def _steps(self, bank: BankTokens) -> int:
        """Optimiser steps on this bank; UserError where there would be none, or nothing to learn from."""
        training, source = self.settings.training, f"config/methods/{self.settings.id}.yaml"
        if training.pairs == "bank" and not len(bank.clean):
            raise UserError(f"{source}: key 'bank.pairs' is 0, training needs pairs (or training.pairs: fresh)")
        images = len(bank.normal)
        count = training.budget(images)
        available = images if training.pairs == "fresh" else len(bank.clean)
        if not count or (training.order == "drop-last" and available < training.batch_size):
            raise UserError(
                f"{source}: {images} drawn images fill no batch of {training.batch_size}, so that an epoch has no step; "
                "lower training.batch_size, or set training.steps and training.order: continued"
            )
        return count

    def _batches(self, bank: BankTokens, generator: torch.Generator) -> Iterator[Batch]:
        """Batches of pairs that are encoded already."""
        clean, synthetic, inside = self._tokens(bank.clean), self._tokens(bank.synthetic), self._mask(bank.inside)
        for pairs, damaged in pair_batches(len(clean), self.settings.training, generator):
            pairs, damaged = (values.to(self.device, non_blocking=True) for values in (pairs, damaged))
            target = clean[pairs]
            inputs = torch.where(damaged[:, None, None], synthetic[pairs], target)
            yield target, inputs, None if inside is None else inside[pairs]

    def _fresh_batches(self, bank: BankTokens, generator: torch.Generator) -> Iterator[Batch]:
        """Batches of images that are augmented, damaged and encoded at this step."""
        assert bank.fresh is not None, "the stage fit gives a source of pairs to methods that need images"
        first = 0
        for images, damaged in pair_batches(len(bank.normal), self.settings.training, generator):
            numbers = range(first, first + len(images))
            first = numbers.stop
            clean, inputs, inside = bank.fresh.encode(images.tolist(), numbers, damaged.tolist())
            yield self._tokens(clean), self._tokens(inputs), self._mask(inside)

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Mean squared residual of every patch, [B,N] float32, of standardised tokens [B,N,D]."""
        return self.score_images(tokens)[0]

    @torch.inference_mode()
    def score_images(self, tokens: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, None]:
        """As :meth:`score`; no patch attends to those that are not ``inside`` [B,N], the padding."""
        assert self.projector is not None, "fit or restore first"
        scores = []
        for start in range(0, len(tokens), SCORE_BATCH):
            rows = slice(start, start + SCORE_BATCH)
            batch, kept = self._tokens(tokens[rows]), self._mask(None if inside is None else inside[rows])
            with autocast(self.device, self.dtype):
                predicted = self.projector(batch, kept)
            scores.append(patch_residuals(predicted.float(), batch).cpu().numpy())
        return np.concatenate(scores), None

    def state(self) -> dict[str, np.ndarray]:
        """The projector's weights under their state-dict names."""
        assert self.projector is not None, "fit or restore first"
        state = {name: tensor.cpu().numpy() for name, tensor in self.projector.state_dict().items()}
        return state if self.mask_token is None else {MASK_TOKEN: self.mask_token} | state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Rebuild the projector from its weights."""
        weights = {name: torch.from_numpy(array.copy()) for name, array in state.items() if name != MASK_TOKEN}
        self.mask_token = state.get(MASK_TOKEN)
        position = state.get("position_embedding")
        self.projector = self._build(0 if position is None else position.shape[1], state["embed.weight"].shape[1], None)
        self.projector.load_state_dict(weights)
        self.projector.eval()

    def _build(self, tokens: int, channels: int, generator: torch.Generator | None) -> Projector:
        settings = self.settings
        return Projector(channels, tokens, settings.projector, settings.normalise_tokens, generator).to(self.device)

    def _mask(self, inside: np.ndarray | None) -> Tensor | None:
        return None if inside is None else torch.from_numpy(inside).to(self.device)

    def _tokens(self, tokens: np.ndarray) -> Tensor:
        # A copy in torch's aligned memory: on a CPU the last bits of a product depend on where its operands begin.
        result = torch.from_numpy(np.ascontiguousarray(tokens)).clone().to(self.device, torch.float32)
        return F.normalize(result, dim=-1) if self.settings.normalise_tokens else result


def projection_loss(predicted: Tensor, target: Tensor, loss: str) -> Tensor:
    """Mean over batch, patches and channels of the squared or smooth-L1 (beta 1) residual (paper eq. of section 3.3)."""
    return F.mse_loss(predicted, target) if loss == "l2" else F.smooth_l1_loss(predicted, target)
