"""PaDiM by anomalib: its Gaussian and its Mahalanobis distance, on random feature maps."""

from pathlib import Path

import numpy as np

REPOSITORY, LICENCE = "open-edge-platform/anomalib", "Apache-2.0"


def arrays(_: Path) -> dict[str, np.ndarray]:
    """Feature maps [B,C,H,W] of drawn and of test images, and the distances [B,H*W]."""
    import torch
    from anomalib.models.components import MultiVariateGaussian
    from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator

    generator = np.random.default_rng(0)
    normal, images = (generator.normal(1, 1, (count, 12, 5, 5)).astype(np.float32) for count in (8, 3))
    gaussian = MultiVariateGaussian()
    statistics = gaussian.fit(torch.from_numpy(normal))
    distances = AnomalyMapGenerator.compute_distance(torch.from_numpy(images), statistics)
    return {"normal": normal, "images": images, "patches": distances.reshape(len(images), -1).numpy()}
