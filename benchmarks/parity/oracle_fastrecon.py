"""FastRecon by its authors: training and test step of their script, with random feature maps in place of a network."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

REPOSITORY, LICENCE = "FzJun26th/FastRecon", ""


def arrays(_: Path) -> dict[str, np.ndarray]:
    """Feature maps of two layers, and residuals [B,N] with image scores [B], when all tokens reconstruct."""
    import torch

    np.mat = np.asmatrix  # numpy 2 has no mat
    import main as script

    torch.manual_seed(0)
    normal = [torch.randn(2, 40, 4, 4, dtype=torch.float64), torch.randn(2, 60, 2, 2, dtype=torch.float64)]
    images = [torch.randn(3, *maps.shape[1:], dtype=torch.float64) for maps in normal]
    script.args = SimpleNamespace(lambde=2.0, coreset_sampling_ratio=1.0, input_size=(32, 32))
    script.device = "cpu"
    script.max = lambda values: np.asarray(values).max()  # float() of a matrix of one value
    zeros, found = torch.zeros, []
    torch.zeros = lambda *shape, **keys: zeros(*shape, **keys | {"dtype": torch.float64})
    model = script.STPM.__new__(script.STPM)
    torch.nn.Module.__init__(model)
    features = normal
    model.forward = lambda _: features
    model.pred_list_px_lvl, model.pred_list_img_lvl, model.img_path_list = [], [], []
    model.gt_list_px_lvl, model.gt_list_img_lvl = [], []
    model.save_anomaly_map = lambda *_: None
    model.inv_normalize = lambda value: value
    resize = script.cv2.resize

    def captured(values: np.ndarray, *rest: object, **keys: object) -> np.ndarray:
        found.append(np.asarray(values).ravel())
        return resize(np.asarray(values), *rest, **keys)

    script.cv2.resize = captured
    model.training_step((torch.zeros(2, 3, 32, 32), ["a", "b"], "good"), 0)
    model.training_epoch_end([])
    for number in range(3):
        features = [maps[number : number + 1] for maps in images]
        try:
            model.test_step((torch.rand(1, 3, 32, 32), ["c"], ["good"]), 0)
        except (AttributeError, TypeError, IndexError, ValueError) as error:  # what it draws afterwards
            print(f"  after the scores: {error}", file=sys.stderr)
    torch.zeros = zeros
    parts = {"normal": normal, "images": images}
    given = {f"{part}/layer{n + 2}": maps.numpy() for part, both in parts.items() for n, maps in enumerate(both)}
    patches = np.stack(found[:3])
    return given | {"patches": patches, "scores": patches.max(axis=1)}
