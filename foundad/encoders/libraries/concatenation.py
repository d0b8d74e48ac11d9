"""Joins several encoders with the same grid into one: the channels of their patch tokens are concatenated."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foundad.config.encoder import Encoder
from foundad.encoders import build_network
from foundad.paths import PATCH


def build(settings: Encoder) -> nn.Module:
    """The networks of all parts of ``settings`` as one, each with its weights."""
    return Concatenation(settings, [build_network(part) for part in settings.parts])


class Concatenation(nn.Module):
    """Patch tokens of all ``networks``, channels concatenated; each sees the image normalised as it was trained.

    Class tokens are concatenated as well: ``class`` is [B,C], C the sum of the parts' channels.

    Args:
        settings: config of the concatenation, whose normalisation is its first part's.
        networks: one per part, normalised images [B,3,S,S] to patch tokens [B,N,D_i].
    """

    def __init__(self, settings: Encoder, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        mean, std = torch.tensor(settings.mean), torch.tensor(settings.std)
        for number, part in enumerate(settings.parts):
            part_mean, part_std = torch.tensor(part.mean), torch.tensor(part.std)
            # (x * std + mean - part_mean) / part_std as one affine map per channel.
            self.register_buffer(f"scale{number}", (std / part_std).view(1, 3, 1, 1), persistent=False)
            shift = (mean - part_mean) / part_std
            self.register_buffer(f"shift{number}", shift.view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B,3,S,S], normalised for the first part -> tokens [B,N,D], D the sum of the parts' D_i."""
        return self.named(images, (PATCH,))[PATCH]

    def named(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """As :meth:`forward`, all arrays ``names``; a library whose networks give no class tokens cannot be a part."""
        parts: list[dict[str, Tensor]] = []
        networks: Sequence[Any] = list(self.networks)
        for number, network in enumerate(networks):
            seen = images * self.get_buffer(f"scale{number}") + self.get_buffer(f"shift{number}")
            parts.append({PATCH: network(seen)} if tuple(names) == (PATCH,) else network.named(seen, names))
        return {name: torch.cat([part[name] for part in parts], dim=-1) for name in names}
