"""PatchCore by its authors: patch vectors, scores and coreset, with a small random network in place of their backbone."""

import sys
from pathlib import Path

import numpy as np

REPOSITORY, LICENCE = "amazon-science/patchcore-inspection", "Apache-2.0"
SIDE, DIMENSIONS = 64, 40


def arrays(code: Path) -> dict[str, np.ndarray]:
    """Feature maps of two layers, patch vectors [B*N,D], squared distances, image scores, and rows of a coreset."""
    sys.path.append(str(code / "src"))
    import copy

    import torch
    from patchcore.common import FaissNN
    from patchcore.patchcore import PatchCore
    from patchcore.sampler import GreedyCoresetSampler

    torch.manual_seed(0)
    network, device = _small(), torch.device("cpu")
    untouched = copy.deepcopy(network)  # their hooks end a pass early
    model = PatchCore(device)
    model.load(
        network, ["layer2", "layer3"], device, (3, SIDE, SIDE), DIMENSIONS, DIMENSIONS, nn_method=FaissNN(False, 1)
    )
    normal, images = torch.randn(3, 3, SIDE, SIDE), torch.randn(2, 3, SIDE, SIDE)
    model.fit([normal])
    vectors = model._embed(images)
    vectors = np.asarray(vectors)
    scores, _ = model.predict(images)
    patches, *_ = model.anomaly_scorer.predict([vectors])
    model.anomaly_scorer.n_nearest_neighbours = 3
    model.anomaly_scorer.imagelevel_nn = lambda query: model.anomaly_scorer.nn_method.run(3, query)
    _, distances, _ = model.anomaly_scorer.predict([vectors])
    memory = np.asarray(model._embed(normal))
    sampler = GreedyCoresetSampler(0.2, device)
    chosen = sampler._compute_greedy_coreset_indices(torch.from_numpy(memory).double())
    features = {}
    with torch.inference_mode():
        for part, pictures in (("normal", normal), ("images", images)):
            second = untouched.layer2(pictures)
            features |= {f"{part}/layer2": second.numpy(), f"{part}/layer3": untouched.layer3(second).numpy()}
    return features | {
        "vectors": vectors,
        "patches": patches.reshape(len(images), -1),
        "scores": np.asarray(scores),
        "distances": distances,
        "coreset/vectors": memory.astype(np.float64),
        "coreset/chosen": np.asarray(chosen),
    }


def _small():
    """A network with two layers of strides 8 and 16."""
    import torch

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer2 = torch.nn.Conv2d(3, 6, 8, 8)
            self.layer3 = torch.nn.Sequential(torch.nn.Conv2d(6, 10, 3, 2, 1), torch.nn.Tanh())

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return self.layer3(self.layer2(pictures))

    return Small()
