"""RAD by anomalib: its search in several layers, on random tokens, with all drawn images retrieved."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

REPOSITORY, LICENCE = "open-edge-platform/anomalib", "Apache-2.0"
GRID, CHANNELS = 6, 8


def arrays(_: Path) -> dict[str, np.ndarray]:
    """Tokens of two layers side by side, and the distances [B,N] everywhere and within a radius."""
    import torch
    import torch.nn.functional as F
    from anomalib.models.image.rad.torch_model import RadModel

    generator = np.random.default_rng(0)
    normal, images = (generator.normal(1, 1, (n, GRID**2, 2 * CHANNELS)).astype(np.float32) for n in (3, 2))
    layers = [torch.from_numpy(normal[:, :, part]) for part in (slice(0, CHANNELS), slice(CHANNELS, None))]
    queries = [torch.from_numpy(images[:, :, part]) for part in (slice(0, CHANNELS), slice(CHANNELS, None))]
    banks = torch.stack([F.normalize(layer, dim=-1).transpose(0, 1) for layer in layers])
    everyone = torch.arange(len(normal)).repeat(len(images), 1)
    found = {}
    for name, radius in (("everywhere", None), ("radius 1", 1), ("radius 2", 2)):
        model = SimpleNamespace(
            use_positional_bank=radius is not None,
            pos_radius=radius,
            patch_banks=banks,
            bank_grid=torch.tensor([GRID, GRID]),
            _layer_weights=[0.5, 0.5],
            _neighborhood_plans={},
        )
        for method in ("_check_bank_grid", "_neighborhood_plan", "_score_positional"):
            setattr(model, method, getattr(RadModel, method).__get__(model))
        model._score_global = RadModel._score_global
        scores = RadModel._compute_patch_scores(model, queries, everyone, (GRID, GRID))
        found[f"patches/{name}"] = scores.numpy()
    return {"normal": normal, "images": images} | found
