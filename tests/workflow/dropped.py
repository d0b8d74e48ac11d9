"""One new file for each folder whose files are found by themselves: a layout, an encoder library, a metric."""

LAYOUT = '''"""Pictures by the first word of their names: train_1.png, normal_1.png, defect_1.png."""

from collections.abc import Iterator
from pathlib import Path

from foundad.config.dataset import Dataset
from foundad.data.entry import Entry, images_in
from foundad.data.layout import Layout


def read(root: Path, dataset: Dataset) -> Iterator[Entry]:
    """Every picture right below the root, without masks."""
    for path in images_in(root):
        kind = path.stem.partition("_")[0]
        if kind in ("train", "normal", "defect"):
            split, label = "train" if kind == "train" else "test", int(kind == "defect")
            yield Entry(path.stem, dataset.id, split, label, "spot" if label else "good", path.name, None)


LAYOUT = Layout(read)
'''
LIBRARY = '''"""Mean colours of patches: a network without weights."""

from torch import Tensor, nn

from foundad.config.encoder import Encoder


class Colours(nn.Module):
    """Images [B,3,S,S] to [B,N,3]."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(grid)

    def forward(self, images: Tensor) -> Tensor:
        return self.pool(images).flatten(2).transpose(1, 2)


def build(settings: Encoder) -> nn.Module:
    """The network of ``settings``."""
    return Colours(settings.grid)
'''
METRIC = '''"""The share of defective pixels, a metric that needs one file."""

from foundad.metrics.metric import Metric

METRICS = (
    Metric("strict/p_share", "Share", "share of defective pixels", "here", "foundad.metrics.entries.dropped:share"),
)


def share(pixels: object) -> float:
    """Defective pixels of all pixels."""
    return pixels.positives / pixels.scene.maps.pixels
'''
DROPPED = {
    "foundad/data/layouts": LAYOUT,
    "foundad/encoders/libraries": LIBRARY,
    "foundad/metrics/entries": METRIC,
}
