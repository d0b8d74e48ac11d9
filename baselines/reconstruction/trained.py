"""The detector that INP-Former and Dinomaly share: trains a network on the drawn images' tokens, scores what it misses.

It learns from the drawn images and their support views, encoded once in a bank. The number of steps is fixed, nothing
is selected on test data, and everything random derives from the cell's seed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines.reconstruction.keys import Reconstruction
from baselines.reconstruction.losses import patch_distances
from baselines.reconstruction.network import Groups
from baselines.reconstruction.scoring import map_scores
from foundad.config.encoder import Layer
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.shared.grids import as_array, from_array, side
from foundad.detection.shared.stable_adamw import StableAdamW
from foundad.detection.shared.training import (
    Images,
    health,
    image_batches,
    loss_curve,
    mask_on,
    minimise,
    steps_of,
    take_weights,
    weights_of,
)
from foundad.device import ON_CPU, Compute, Precision, arithmetic, float32_products

SCORE_BATCH = 16
LAYERS = "layers"  # in the state of a detector, beside the network's weights


class Reconstructor(nn.Module):
    """A network that reconstructs tokens: forward gives the outputs [B,N,W] of its decoder's blocks, in their order."""

    groups: Groups


class Trained(protocol.Detector):
    """A detector with a :class:`Reconstructor`. A subclass defines :meth:`build` and :meth:`loss`."""

    settings: Reconstruction

    def __init__(self, settings: Reconstruction, seed: int, compute: Compute = ON_CPU) -> None:
        super().__init__(settings, seed, compute)
        self.device = torch.device(compute.device)
        # float16 would need its loss scaled; bfloat16 has the range of float32.
        self.precision: Precision = "bfloat16" if compute.precision == "float16" else compute.precision
        self.network: Reconstructor | None = None
        self.layers: tuple[Layer, ...] = ()

    def build(self, groups: Groups, generator: torch.Generator | None) -> Reconstructor:
        """A new network on the CPU with initial weights from ``generator``."""
        raise NotImplementedError

    def loss(self, network: Any, batch: Images, dropout: torch.Generator) -> Tensor:
        """The loss of a batch. ``dropout`` is a generator on the network's device."""
        raise NotImplementedError

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Train on the drawn images; the record holds the number of parameters, steps, loss curve and health.

        Raises:
            UserError: there are no steps, or a loss is not finite.
            MachineError: a batch does not fit the device's memory.
        """
        training, name = self.settings.training, self.settings.id
        steps = steps_of(len(bank.normal), len(bank.normal), training, name)
        self.layers = tuple(bank.layers) or (Layer(bank.normal.shape[2], side(bank.normal)),)
        network = self.network = self._on_device(torch.Generator().manual_seed(self.seed))
        optimiser = StableAdamW(network.parameters(), training.weight_decay, training.gradient_norm)
        batches = image_batches(bank, training, torch.Generator().manual_seed(self.seed + 1), self._tokens)
        dropout = torch.Generator(self.device).manual_seed(self.seed + 2)
        network.train()
        with float32_products(self.device, self.precision):  # of the backward pass as well
            losses = minimise(
                lambda batch: self.loss(network, batch, dropout), batches, optimiser, training, steps, name
            )
        network.eval()
        return {
            "parameters": sum(p.numel() for p in network.parameters()),
            "steps": steps,
            "losses": loss_curve(losses),
            "health": health(bank, self._patch_scores),
        }

    def score_images(
        self, tokens: np.ndarray, inside: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean over groups of the cosine distance of every patch, [B,N] float32, of tokens [B,N,D].

        Image scores are those of the smoothed map if the settings have a ``window``. Padding, the patches that are not
        ``inside`` [B,N], takes no part in either.
        """
        patch_scores = self._patch_scores(tokens, inside)
        return patch_scores, None if self.settings.window is None else map_scores(patch_scores, self.settings, inside)

    @torch.inference_mode()
    def _patch_scores(self, tokens: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
        assert self.network is not None, "fit or restore first"
        groups, scores = self.network.groups, []
        for start in range(0, len(tokens), SCORE_BATCH):
            rows = slice(start, start + SCORE_BATCH)
            batch = self._tokens(tokens[rows])
            shown = mask_on(self.device, None if inside is None else inside[rows])
            with arithmetic(self.device, self.precision):
                outputs = self.network(groups.fused(batch), shown)
            scores.append(group_distances(groups, batch, outputs).cpu().numpy())
        return np.concatenate(scores)

    def state(self) -> dict[str, np.ndarray]:
        """The weights of the network under their state-dict names, and the layers that it was built for."""
        assert self.network is not None, "fit or restore first"
        return {LAYERS: as_array(self.layers)} | weights_of(self.network)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Rebuild the network from its weights."""
        self.layers = from_array(state[LAYERS])
        self.network = self._on_device(None)
        take_weights(self.network, {name: array for name, array in state.items() if name != LAYERS})

    def _on_device(self, generator: torch.Generator | None) -> Reconstructor:
        return self.build(Groups(self.layers), generator).to(self.device)

    def _tokens(self, tokens: np.ndarray) -> Tensor:
        # A copy in torch's aligned memory: on a CPU the last bits of a product depend on its operands' alignment.
        return torch.from_numpy(np.ascontiguousarray(tokens)).clone().to(self.device, torch.float32)


def group_distances(groups: Groups, tokens: Tensor, outputs: Sequence[Tensor]) -> Tensor:
    """Cosine distance of every patch, averaged over the groups, [B,N]: the patch score of both methods."""
    pairs = zip(groups.targets(tokens), groups.reconstructed(outputs), strict=True)
    return torch.stack([patch_distances(wanted, found.to(wanted.dtype)) for wanted, found in pairs]).mean(dim=0)
