"""What trained methods share: batches, optimiser, schedules, training loop, loss curve, health, weights.

A detector builds its network, defines the loss of a batch, and calls :func:`minimise`. Batches are pairs of clean and
damaged pictures, or the drawn images themselves. The keys are in
:mod:`foundad.detection.shared.training_settings`.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from tqdm import tqdm

from foundad.config.base import file_of
from foundad.data.patches import any_padding
from foundad.detection.bank import BankTokens
from foundad.detection.shared.training_settings import Optimisation, Training
from foundad.device import repeatable
from foundad.errors import MachineError, UserError
from foundad.scores import largest, top_k_mean

LOSS_CURVE_POINTS = 50
HEALTH_PAIRS, HEALTH_PATCHES = 16, 10
ToDevice = Callable[[np.ndarray], Tensor]


class Batch(NamedTuple):
    """Clean tokens and inputs, [B,N,D] float32, and which of them are not padding, [B,N] bool (None = all)."""

    clean: Tensor
    inputs: Tensor
    inside: Tensor | None


class Images(NamedTuple):
    """The batch of a step (from 0): tokens of normal images, [B,N,D] float32, and which are not padding, [B,N] bool."""

    step: int
    tokens: Tensor
    inside: Tensor | None


# ---------------------------------------------------------------------------------------------------- optimiser


class Optimiser(Protocol):
    """What :func:`minimise` needs of an optimiser."""

    parameters: list[Tensor]

    def step(self, learning_rate: float) -> None:
        """Update the parameters with their gradients, then clear the gradients."""


class AdamW:
    """AdamW (Loshchilov and Hutter, 2019) on all parameters, biases and norms included, as in the released code.

    Calls torch's fused step directly. The constructor of ``torch.optim.Optimizer`` imports torch's compiler, which
    costs nearly a second of start-up in each of thousands of jobs.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.weight_decay = weight_decay
        self.means = [torch.zeros_like(p, memory_format=torch.preserve_format) for p in self.parameters]
        self.squares = [torch.zeros_like(p, memory_format=torch.preserve_format) for p in self.parameters]
        self.steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the parameters with their gradients, then clear the gradients."""
        adamw(
            self.parameters,
            [cast(Tensor, p.grad) for p in self.parameters],
            self.means,
            self.squares,
            [],
            self.steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )
        for parameter in self.parameters:
            parameter.grad = None


def learning_rate(step: int, steps: int, training: Optimisation) -> float:
    """Learning rate at ``step`` (from 0) of ``steps``.

    ``cosine-warmup-from-zero`` is that of Dinomaly and INP-Former, the others are those of FoundAD's released code. Both
    warm-ups rise evenly to the full rate; one begins with a step of it, the other at zero.
    """
    rate = training.learning_rate
    if training.schedule == "constant":
        return rate
    if training.schedule == "step":
        return rate * training.step_factor ** (step // training.step_length)
    if training.schedule.startswith("cosine-warmup"):
        if step < training.warmup:
            from_zero = training.schedule == "cosine-warmup-from-zero"
            return rate * (step / max(1, training.warmup - 1) if from_zero else (step + 1) / training.warmup)
        step, steps = step - training.warmup, steps - training.warmup
    cosine = (1 + math.cos(math.pi * step / steps)) / 2
    return rate * (training.final_rate + (1 - training.final_rate) * cosine)


# ---------------------------------------------------------------------------------------------------- batches


def steps_on(bank: BankTokens, training: Training, method: str) -> int:
    """Number of optimiser steps on ``bank``.

    Raises:
        UserError: there is no step to take or nothing to learn from; the message names the file of ``method``.
    """
    source = file_of("methods", method)
    if training.pairs == "bank" and not len(bank.clean):
        raise UserError(f"{source}: key 'bank.pairs' is 0; raise it, or set training.pairs: fresh")
    images = len(bank.normal)
    return steps_of(images, images if training.pairs == "fresh" else len(bank.clean), training, method)


def steps_of(images: int, available: int, training: Optimisation, method: str) -> int:
    """Number of optimiser steps for ``images`` images, if batches are drawn from ``available`` rows.

    Raises:
        UserError: there is no step to take; the message names the file of ``method``.
    """
    count = training.budget(images)
    if not count or (training.order == "drop-last" and available < training.batch_size):
        raise UserError(
            f"{file_of('methods', method)}: {images} drawn images fill no batch of {training.batch_size}, so that an "
            "epoch has no step; lower training.batch_size, or set training.steps and training.order: continued"
        )
    return count


def batches_of(
    bank: BankTokens, training: Training, generator: torch.Generator, to_device: ToDevice
) -> Iterator[Batch]:
    """Endless batches, either of stored pairs or of images that are augmented, damaged and encoded at every step."""
    if training.pairs == "fresh":
        return _fresh_batches(bank, training, generator, to_device)
    return _encoded_batches(bank, training, generator, to_device)


def _encoded_batches(
    bank: BankTokens, training: Training, generator: torch.Generator, to_device: ToDevice
) -> Iterator[Batch]:
    clean, synthetic = to_device(bank.clean), to_device(bank.synthetic)
    inside = mask_on(clean.device, bank.inside)
    for pairs, damaged in pair_batches(len(clean), training, generator):
        pairs, damaged = (values.to(clean.device, non_blocking=True) for values in (pairs, damaged))
        target = clean[pairs]
        inputs = torch.where(damaged[:, None, None], synthetic[pairs], target)
        yield Batch(target, inputs, None if inside is None else inside[pairs])


def _fresh_batches(
    bank: BankTokens, training: Training, generator: torch.Generator, to_device: ToDevice
) -> Iterator[Batch]:
    assert bank.fresh is not None, "the stage fit gives a source of pairs to methods that need images"
    first = 0
    for images, damaged in pair_batches(len(bank.normal), training, generator):
        numbers = range(first, first + len(images))
        first = numbers.stop
        clean, inputs, inside = bank.fresh.encode(images.tolist(), numbers, damaged.tolist())
        target = to_device(clean)
        yield Batch(target, to_device(inputs), mask_on(target.device, inside))


def mask_on(device: torch.device, inside: np.ndarray | None) -> Tensor | None:
    """``inside`` [B,N] bool on ``device``; None stays None."""
    return None if inside is None else torch.from_numpy(inside).to(device)


def pair_batches(pairs: int, training: Training, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches: indices [B] int64 of pairs, and damaged [B] bool, whether the input shows a synthetic anomaly.

    With the gate ``image`` each pair has its own coin (paper: z ~ Bernoulli(1 - sigma)); with ``batch`` the whole batch
    shares one (released code).
    """
    for batch in index_batches(pairs, training, generator):
        coins = training.batch_size if training.gate == "image" else 1
        damaged = torch.rand(coins, generator=generator) < training.synthetic_probability
        yield batch, damaged.expand(training.batch_size)


def index_batches(count: int, training: Optimisation, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of indices below ``count``, [B] int64, without replacement; reshuffled when all have been seen.

    The order ``drop-last`` leaves out a rest that fills no batch.
    """
    order = torch.empty(0, dtype=torch.int64)
    while True:
        while len(order) < training.batch_size:
            left = order if training.order == "continued" else order[:0]
            order = torch.cat([left, torch.randperm(count, generator=generator)])
        batch, order = order[: training.batch_size], order[training.batch_size :]
        yield batch


def image_batches(
    bank: BankTokens, training: Optimisation, generator: torch.Generator, to_device: ToDevice
) -> Iterator[Images]:
    """Endless batches of the drawn images and their support views; only one batch at a time is on the device."""
    for step, batch in enumerate(index_batches(len(bank.normal), training, generator)):
        rows = batch.numpy()
        tokens = to_device(bank.normal[rows])
        inside = None if bank.inside_normal is None else bank.inside_normal[rows]
        yield Images(step, tokens, mask_on(tokens.device, inside))


def drop_features(tokens: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Drop single features of [B,N,D] and scale up the rest (released code, p = 0.2); ``generator`` on their device."""
    if not probability:
        return tokens
    kept = torch.rand(tokens.shape, generator=generator, device=tokens.device) >= probability
    return tokens * kept.to(tokens.dtype) / (1 - probability)


# ---------------------------------------------------------------------------------------------------- training


Rows = TypeVar("Rows")  # of a batch: Batch or Images


def minimise(
    loss_of: Callable[[Rows], Tensor],
    batches: Iterator[Rows],
    optimiser: Optimiser,
    training: Optimisation,
    steps: int,
    method: str,
) -> np.ndarray:
    """Minimise the loss in ``steps`` optimiser steps, with a progress bar; returns the losses [steps] float32.

    On a GPU they have the same bits every time.

    Raises:
        UserError: a loss is not finite.
        MachineError: a batch does not fit the device's memory.
    """
    losses = torch.zeros(steps, device=optimiser.parameters[0].device)
    numbers = tqdm(range(steps), desc=f"{method}: steps", disable=None, file=sys.stderr)
    try:
        for step, batch in zip(numbers, batches, strict=False):
            with repeatable(losses.device):
                loss = loss_of(batch)
                loss.backward()
                optimiser.step(learning_rate(step, steps, training))
            losses[step] = loss.detach()
    except torch.OutOfMemoryError:
        raise MachineError(
            f"{method}: out of memory at training.batch_size {training.batch_size}, which is never changed by itself; "
            "choose a smaller one, or a smaller network or grid"
        ) from None
    found = losses.cpu().numpy()
    if not np.isfinite(found).all():
        first = int(np.flatnonzero(~np.isfinite(found))[0])
        raise UserError(f"{method}: the loss is not finite at step {first}; lower training.learning_rate")
    return found


def loss_curve(losses: np.ndarray) -> list[float]:
    """``losses`` [steps] averaged over at most 50 consecutive parts, for records."""
    parts = np.array_split(losses, min(len(losses), LOSS_CURVE_POINTS))
    return [round(float(part.mean()), 6) for part in parts]


def health(
    bank: BankTokens,
    score: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    seen: int | None = None,
) -> dict[str, float]:
    """Mean image score (mean of the top 10 patches) of clean and of damaged training images.

    Args:
        score: gives patch scores [B,N] from tokens [B,N,D] and ``inside`` [B,N], which are not padding (None = all).
        seen: number of fresh pairs that training has seen, after which new ones are numbered; None = it used the
            bank's.

    Returns:
        ``clean_residual`` and ``synthetic_residual``; empty if the bank has no pairs.
    """
    if seen is not None:
        assert bank.fresh is not None
        images = [number % len(bank.normal) for number in range(HEALTH_PAIRS)]
        clean, damaged, inside = bank.fresh.encode(images, range(seen, seen + HEALTH_PAIRS), [True] * HEALTH_PAIRS)
    else:
        clean, damaged = bank.clean[:HEALTH_PAIRS], bank.synthetic[:HEALTH_PAIRS]
        inside = None if bank.inside is None else any_padding(bank.inside[:HEALTH_PAIRS])
    residuals: dict[str, float] = {}
    if not len(clean):
        return residuals
    for name, tokens in (("clean_residual", clean), ("synthetic_residual", damaged)):
        scores = score(tokens, inside)
        found = largest(scores, HEALTH_PATCHES) if inside is None else top_k_mean(scores, HEALTH_PATCHES, inside)
        residuals[name] = float(found.mean(dtype=np.float64))
    return residuals


# ---------------------------------------------------------------------------------------------------- weights


def weights_of(network: nn.Module) -> dict[str, np.ndarray]:
    """The weights of ``network`` by their state-dict names, as a detector's state keeps them."""
    return {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}


def take_weights(network: nn.Module, state: Mapping[str, np.ndarray]) -> None:
    """Load what :func:`weights_of` returned into ``network``, and set it to evaluation mode."""
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
    network.eval()
