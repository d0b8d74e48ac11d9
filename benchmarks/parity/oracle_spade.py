"""SPADE by byungjae89: its whole script, with a small random network and random pictures in place of weights and data.

The picture's side makes galleries of a multiple of 100 patches: the script leaves out the rest of a gallery. Its
pairwise_distance is that of its time (torch 1.5), which reduced the channels. Later ones reduce the last axis, with which the
script computes something else.
"""

import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

REPOSITORY, LICENCE = "byungjae89/SPADE-pytorch", "Apache-2.0"
DRAWN, SHOWN, SIDE, NEIGHBOURS = 5, 3, 80, 4
NAMES = ("layer1", "layer2", "layer3", "avgpool")


def arrays(code: Path) -> dict[str, np.ndarray]:
    """Feature maps of four layers, image scores [B], and distance maps [B,H,W] of three layers at their own grids."""
    import torch

    torch.manual_seed(0)
    network = _small()
    pictures = torch.randn(DRAWN + SHOWN, 3, SIDE, SIDE)
    datasets, data = ModuleType("datasets"), ModuleType("datasets.mvtec")

    def of_part(class_name: str, is_train: bool) -> list[tuple[torch.Tensor, int, torch.Tensor]]:
        chosen = pictures[:DRAWN] if is_train else pictures[DRAWN:]
        mask = torch.zeros(1, 224, 224)
        mask[:, :50] = 1
        return [(picture, number % 2, mask * (number % 2)) for number, picture in enumerate(chosen)]

    data.CLASS_NAMES, data.MVTecDataset = ["thing"], of_part
    datasets.mvtec = data
    sys.modules |= {"datasets": datasets, "datasets.mvtec": data}
    sys.path.insert(0, str(code / "src"))
    import main as script

    captured: dict[str, list[np.ndarray]] = {"scores": [], "maps": []}
    ranking, interpolate = script.roc_auc_score, script.F.interpolate

    def rank(labels: list[int], scores: np.ndarray) -> float:
        captured["scores"].append(np.asarray(scores))
        return float(ranking(labels, scores))

    def resize(maps: torch.Tensor, **keys: object) -> torch.Tensor:
        captured["maps"].append(maps[0, 0].numpy().copy())
        return interpolate(maps, **keys)

    pairwise = torch.pairwise_distance
    torch.pairwise_distance = lambda first, second: (first - second + 1e-6).square().sum(dim=1).sqrt()
    script.roc_auc_score, script.F.interpolate = rank, resize
    script.wide_resnet50_2 = lambda **_: network
    script.visualize_loc_result = lambda *_, **__: None
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["main.py", "--top_k", str(NEIGHBOURS), "--save_path", folder]
        script.main()
    script.F.interpolate, torch.pairwise_distance = interpolate, pairwise
    features = _features(network, pictures)
    found = {f"normal/{name}": maps[:DRAWN] for name, maps in features.items()}
    found |= {f"images/{name}": maps[DRAWN:] for name, maps in features.items()}
    of_layers = {f"distances/{name}": np.stack(captured["maps"][number::3]) for number, name in enumerate(NAMES[:3])}
    return found | of_layers | {"scores": captured["scores"][0], "neighbours": np.array(NEIGHBOURS)}


def _small():
    """A network with a pyramid of strides 4, 8 and 16 and pooled features."""
    import torch

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, given, made, stride in (("layer1", 3, 6, 4), ("layer2", 6, 8, 2), ("layer3", 8, 10, 2)):
                setattr(self, name, torch.nn.Sequential(torch.nn.Conv2d(given, made, stride, stride), torch.nn.Tanh()))
            self.avgpool = torch.nn.AdaptiveAvgPool2d(1)

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return self.avgpool(self.layer3(self.layer2(self.layer1(pictures))))

    return Small()


def _features(network, pictures) -> dict[str, np.ndarray]:
    """Maps [B,C,H,W] of the layers and of the pooled features."""
    import torch

    found: dict[str, np.ndarray] = {}
    for name in NAMES:
        layer = getattr(network, name)
        last = layer if name == "avgpool" else layer[-1]
        last.register_forward_hook(lambda _, __, out, name=name: found.update({name: out.numpy()}))
    with torch.inference_mode():
        network(pictures)
    return found
