"""RAD by its authors: their evaluation, with random tokens in place of their encoder and all drawn images retrieved."""

from pathlib import Path

import numpy as np
from modules import stand_in

REPOSITORY, LICENCE = "longkukuhi/RAD", ""
GRID, CHANNELS = 6, 8


def arrays(_: Path) -> dict[str, np.ndarray]:
    """Tokens of two layers side by side, and the distances [B,N] everywhere and within a radius."""
    import torch

    stand_in("dataset", "get_data_transforms", "MVTecDataset")
    stand_in("dinov3.hub.backbones", "load_dinov3_model")
    stand_in("utils", "compute_pro", "f1_score_max", "get_gaussian_kernel")
    import rad_mvtec_visa_3dadam as script

    script.compute_pro = script.f1_score_max = lambda *_: 0.0
    script.get_gaussian_kernel = lambda **_: torch.nn.Identity()
    generator = np.random.default_rng(0)
    normal, images = (generator.normal(1, 1, (n, GRID**2, 2 * CHANNELS)).astype(np.float32) for n in (3, 2))
    of_layers = [
        [torch.from_numpy(array[:, :, p]) for p in (slice(CHANNELS), slice(CHANNELS, None))]
        for array in (normal, images)
    ]

    class Encoder(torch.nn.Module):
        def get_intermediate_layers(self, *_: object, **__: object) -> list[tuple[torch.Tensor, torch.Tensor]]:
            return [(layer, layer.mean(dim=1)) for layer in of_layers[1]]

    mask = torch.zeros(2, 1, 16, 16)
    mask[1, :, :4] = 1
    loader = [(torch.zeros(2, 3, 16, 16), mask, torch.tensor([0, 1]), ["a", "b"])]
    interpolate, found = script.F.interpolate, {}
    for name, radius in (("everywhere", None), ("radius 1", 1), ("radius 2", 2)):
        captured: list[np.ndarray] = []

        def resize(maps: torch.Tensor, captured: list[np.ndarray] = captured, **keys: object) -> torch.Tensor:
            captured.append(maps.numpy().copy())
            return interpolate(maps, **keys)

        script.F.interpolate = resize
        script.eval_patch_knn_multilayer_cluster(
            Encoder(),
            [0, 1],
            [layer.mean(dim=1) for layer in of_layers[0]],
            of_layers[0],
            loader,
            "cpu",
            k_image=len(normal),
            resize_mask=16,
            use_positional_bank=radius is not None,
            pos_radius=radius or 0,
        )
        found[f"patches/{name}"] = captured[0].reshape(len(images), -1)
    script.F.interpolate = interpolate
    return {"normal": normal, "images": images} | found
