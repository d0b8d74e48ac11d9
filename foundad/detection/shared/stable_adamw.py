"""StableAdamW (Wortsman et al., arXiv 2304.13013) with AMSGrad and a clipped gradient, as INP-Former and Dinomaly use it."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

BETAS = 0.9, 0.999


class StableAdamW:
    """AdamW whose step of each tensor is divided by the root mean square of its scaled gradient, where that is above one.

    Before a step, the gradient of all tensors together is scaled down to a length of at most ``gradient_norm``.

    Args:
        epsilon: added to the denominator (1e-10 in both codes).
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], weight_decay: float, gradient_norm: float, epsilon: float = 1e-10
    ) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.weight_decay, self.gradient_norm, self.epsilon = weight_decay, gradient_norm, epsilon
        self.means, self.squares, self.largest = (
            [torch.zeros_like(parameter) for parameter in self.parameters] for _ in range(3)
        )
        self.steps = 0

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the parameters with their gradients, then clear the gradients."""
        gradients = [_gradient(parameter) for parameter in self.parameters]
        self._clip(gradients)
        self.steps += 1
        corrections = [1 - beta**self.steps for beta in BETAS]
        torch._foreach_mul_(self.parameters, 1 - learning_rate * self.weight_decay)
        torch._foreach_mul_(self.means, BETAS[0])
        torch._foreach_add_(self.means, gradients, alpha=1 - BETAS[0])
        torch._foreach_mul_(self.squares, BETAS[1])
        torch._foreach_addcmul_(self.squares, gradients, gradients, value=1 - BETAS[1])
        torch._foreach_maximum_(self.largest, self.squares)
        scales = torch._foreach_sqrt(self.largest)
        torch._foreach_div_(scales, math.sqrt(corrections[1]))
        torch._foreach_add_(scales, self.epsilon)
        torch._foreach_div_(gradients, scales)
        lengths = torch._foreach_norm(gradients)
        for scale, length in zip(scales, lengths, strict=True):
            scale *= (length / scale.numel() ** 0.5).clamp(min=1.0)
        torch._foreach_addcdiv_(self.parameters, self.means, scales, value=-learning_rate / corrections[0])
        for parameter in self.parameters:
            parameter.grad = None

    def _clip(self, gradients: list[Tensor]) -> None:
        length = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_mul_(gradients, (self.gradient_norm / (length + 1e-6)).clamp(max=1.0))


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "every parameter takes part in the loss"
    return parameter.grad
