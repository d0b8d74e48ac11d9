"""VisionAD by its authors: their model and query views, with one random convolution in place of their encoder.

Their views are made of pictures, ours are given to the detector as an encoder sees them: six of every drawn picture, and
three of every test picture. The choice of a category by class token is not compared.
"""

from pathlib import Path

import numpy as np
from modules import stand_in

REPOSITORY, LICENCE = "Qiqigeww/VisionAD", ""
PATCH, GRID, CHANNELS = 4, 6, 12


def arrays(_: Path) -> dict[str, np.ndarray]:
    """Tokens of the drawn and the test pictures under every query view, and the sum of the three maps [B,N]."""
    import torch

    stand_in("dataset", "get_data_transforms", "MVTecDataset")
    from models.uad import DADE
    from utils import color_jitter_batch, value_limit

    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, CHANNELS, PATCH, PATCH)

    class Encoder(torch.nn.Module):
        """Tokens of a convolution behind one class token; no block changes them."""

        blocks = (torch.nn.Identity(), torch.nn.Identity())

        def prepare_tokens(self, pictures: torch.Tensor) -> torch.Tensor:
            tokens = convolution(pictures).flatten(2).transpose(1, 2)
            return torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)

    model = DADE(Encoder(), interested_layers=[0, 1], rotate_supports=True).eval()
    drawn, shown = torch.randn(2, 3, PATCH * GRID, PATCH * GRID), torch.randn(3, 3, PATCH * GRID, PATCH * GRID)
    total = torch.zeros(3, 1, GRID, GRID)
    found: dict[str, np.ndarray] = {}
    views = (
        ("as-is", lambda x: x, 0),
        ("flip-vertical", lambda x: color_jitter_batch(x, 0.9), 1),
        ("clamp", value_limit, 2),
    )
    with torch.inference_mode():
        for name, view, number in views:
            maps = model(view(shown), view(drawn[None]), True, False, aug=number)
            total += torch.flip(maps, dims=[-2]) if name == "flip-vertical" else maps
            seen = view(drawn)
            turned = [torch.rot90(seen, k, dims=[-2, -1]) for k in range(4)]
            turned += [torch.flip(seen, dims=[-2]), torch.flip(seen, dims=[-1])]
            found[f"normal/{name}"] = model.encoder.prepare_tokens(torch.cat(turned))[:, 1:].numpy()
            found[f"images/{name}"] = model.encoder.prepare_tokens(view(shown))[:, 1:].numpy()
    return found | {"patches": total.flatten(1).numpy()}
