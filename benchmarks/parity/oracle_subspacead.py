"""SubspaceAD by its authors: their principal components and residuals, on random tokens near a plane."""

import sys
from pathlib import Path

import numpy as np

REPOSITORY, LICENCE = "CLendering/SubspaceAD", "Apache-2.0"


def arrays(code: Path) -> dict[str, np.ndarray]:
    """Tokens [B,N,D], the number of components that explain 0.99 of the variance, and squared residuals [B,N]."""
    sys.path.append(str(code / "src"))
    from subspacead.core.pca import PCAModel
    from subspacead.post_process.scoring import calculate_anomaly_scores

    generator = np.random.default_rng(0)
    plane = generator.normal(size=(5, 24))

    def tokens(images: int) -> np.ndarray:
        values = generator.normal(size=(images, 25, 5)) @ plane + 2
        return (values + generator.normal(0, 0.1, values.shape)).astype(np.float32)

    normal, images = tokens(4), tokens(3)
    images[:, 7] += generator.normal(0, 2, 24).astype(np.float32)
    flat = normal.reshape(-1, 24)
    model = PCAModel(ev=0.99).fit(lambda: iter([flat[:60], flat[60:]]), 24, len(flat), 2)
    residuals = calculate_anomaly_scores(images.reshape(-1, 24).astype(np.float64), model, "reconstruction")
    return {
        "normal": normal,
        "images": images,
        "components": np.array(model["k"]),
        "patches": residuals.reshape(len(images), -1),
    }
