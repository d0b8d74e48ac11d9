"""What trained methods share: the optimiser, learning rates, batches of pairs, dropout of features."""

import math
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from foundad.config import Training


class AdamW:
    """AdamW (Loshchilov and Hutter, 2019) on all parameters, biases and norms included, as the released code has it.

    torch's own fused step without ``torch.optim.Optimizer`` around it, whose constructor imports torch's compiler: nearly
    a second of start-up in each of thousands of jobs.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.weight_decay = weight_decay
        self.means = [torch.zeros_like(p, memory_format=torch.preserve_format) for p in self.parameters]
        self.squares = [torch.zeros_like(p, memory_format=torch.preserve_format) for p in self.parameters]
        self.steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update with the gradients that the parameters hold; takes the gradients away."""
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


def learning_rate(step: int, steps: int, training: Training) -> float:
    """Learning rate of ``step`` (from 0) of ``steps``; the schedules of the released code, counted in steps."""
    rate = training.learning_rate
    if training.schedule == "constant":
        return rate
    if training.schedule == "step":
        return rate * training.step_factor ** (step // training.step_length)
    if training.schedule == "cosine-warmup":
        if step < training.warmup:
            return rate * (step + 1) / training.warmup
        step, steps = step - training.warmup, steps - training.warmup
    cosine = (1 + math.cos(math.pi * step / steps)) / 2
    return rate * (training.final_rate + (1 - training.final_rate) * cosine)


def pair_batches(pairs: int, training: Training, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (indices [B] int64 of pairs, damaged [B] bool: does the input show the synthetic anomaly).

    Pairs are drawn without replacement, reshuffled when all have been seen; with the order ``drop-last`` what is left of
    them and fills no batch is left out. With gate ``image`` each has its own coin (paper: z ~ Bernoulli(1 - sigma)), with
    ``batch`` the whole batch shares one (released code).
    """
    order = torch.empty(0, dtype=torch.int64)
    while True:
        while len(order) < training.batch_size:
            left = order if training.order == "continued" else order[:0]
            order = torch.cat([left, torch.randperm(pairs, generator=generator)])
        batch, order = order[: training.batch_size], order[training.batch_size :]
        coins = training.batch_size if training.gate == "image" else 1
        damaged = torch.rand(coins, generator=generator) < training.synthetic_probability
        yield batch, damaged.expand(training.batch_size)


def drop_features(tokens: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Dropout of single features [B,N,D], kept ones scaled up (released code, p = 0.2); ``generator`` on their device."""
    if not probability:
        return tokens
    kept = torch.rand(tokens.shape, generator=generator, device=tokens.device) >= probability
    return tokens * kept.to(tokens.dtype) / (1 - probability)
