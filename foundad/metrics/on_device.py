"""The pixels of a category sorted by torch, on a GPU or any other device: the same numbers to 1e-5.

The order is exact. Maps differ from numpy's in their last bits, so that a pixel at a near tie changes sides.

For ``foundad evaluate --device cuda``. The workflow evaluates without torch: a category takes a fraction of a second
there, less than a process needs to start a GPU.
"""

from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foundad.metrics.defects import Defects
from foundad.metrics.pixels import Maps, Scene
from foundad.metrics.ranking import Ranks


class DeviceScene(Scene):
    """A scene whose maps are made and sorted on ``device``, which torch names."""

    def __init__(self, maps: Maps, defects: Defects, normal: np.ndarray, device: str) -> None:
        super().__init__(maps, defects, normal)
        self.device = device

    @cached_property
    def ranks(self) -> tuple[Ranks, np.ndarray]:
        ascending, by_score = torch.sort(self._sent(self.scores), stable=True)
        thresholds, counts = torch.unique_consecutive(ascending, return_counts=True)
        below, tied = torch.zeros_like(counts), torch.zeros_like(counts)
        total = 0
        for part in self.others():
            total += len(part)
            found = torch.searchsorted(part, thresholds)
            below += found
            tied += torch.searchsorted(part, thresholds, right=True) - found
        first = np.concatenate([[0], np.cumsum(counts.cpu().numpy())])
        scores, lower, equal = (column.cpu().numpy() for column in (thresholds, below, tied))
        return Ranks(scores, first, lower, equal, total), self.runs[by_score.cpu().numpy()]

    def passing(self, levels: np.ndarray) -> np.ndarray:
        found = np.zeros(len(levels), np.int64)
        asked = self._sent(levels)
        for part in self.others():
            found += len(part) - torch.searchsorted(part.double(), asked, right=True).cpu().numpy()
        return found

    def highest(self, share: float) -> tuple[np.ndarray, int]:
        normal = int(self.normal.sum()) * self.maps.size[0] * self.maps.size[1]
        count = int(np.ceil(share * normal)) + 1
        found = self._sent(np.empty(0, np.float32))
        for rows in self.maps.parts:
            found = torch.cat([found, self._part(rows)[self._sent(self.normal[rows])].flatten()])
            found = torch.topk(found, min(count, len(found))).values
        return found.cpu().numpy(), normal

    def _defective(self, rows: slice) -> np.ndarray:
        part = self._part(rows)
        pixels = self._numbers(rows.start, len(part))
        return part.flatten()[pixels].cpu().numpy()

    def _ascending(self, rows: slice) -> Tensor:
        part = self._part(rows)
        kept = torch.ones(part.numel(), dtype=torch.bool, device=self.device)
        kept[self._numbers(rows.start, len(part))] = False
        return torch.sort(part.flatten()[kept]).values

    def _part(self, rows: slice) -> Tensor:
        """The maps [b,H,W] float32 of the images ``rows`` on the device."""
        maps = self.maps
        if maps.smoothing or maps.windows is not None:
            return self._sent(maps.part(rows))
        scores = self._sent(np.ascontiguousarray(maps.patch_scores[rows], np.float32))
        return F.interpolate(scores[:, None], maps.size, mode="bilinear", align_corners=False)[:, 0]

    def _numbers(self, first: int, images: int) -> Tensor:
        """Numbers [p] of the defective pixels of some images, counted from the first pixel of the first image."""
        pixels = self.maps.size[0] * self.maps.size[1]
        found = [self.defects.pixels(first + number) + number * pixels for number in range(images)]
        return self._sent(np.concatenate(found))

    def _sent(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)
