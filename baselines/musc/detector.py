"""MuSc (ICLR 2024, arXiv 2401.16753): the test images of a category score one another, and none is drawn.

A token of a normal part has near tokens in many other images, that of a defect in few. Per layer of the encoder and size
of neighbourhood, the score of a token is its mean distance to the nearest images (scoring.py); all are averaged. Images
are compared block by block, so that memory is bounded; time grows with the square of their number. Padding is neither
scored nor compared.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from baselines.musc.scoring import aggregated, largest_of_map, mutual, normalised, rescored
from baselines.musc.settings import BLOCK, TOKENS, Settings, compared
from foundad.config.encoder import Layer
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.pictures import Pictures
from foundad.detection.shared.grids import as_array, coarser, extended, from_array, resized, side, split
from foundad.device import float32_products
from foundad.errors import UserError
from foundad.paths import CLASS


class Detector(protocol.Detector):
    """Remembers the encoder's layers alone."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, object]:
        """Learn nothing."""
        self.restore({"layers": as_array(bank.layers)})
        return {"layers": len(bank.layers)}

    @torch.inference_mode()
    def score_pictures(self, pictures: Pictures) -> tuple[np.ndarray, np.ndarray]:
        """Patch scores [n,N] and image scores [n], float32, of all test images of a category.

        Raises:
            UserError: there is only one.
        """
        if len(pictures.tokens) < 2:
            raise UserError(
                f"{self.settings.id}: scores the test images of a category by one another; one image alone has no score"
            )
        with float32_products(torch.device(self.compute.device), self.compute.precision):
            patch_scores = self._patch_scores(pictures)
            image_scores = self._image_scores(patch_scores, pictures)
        return patch_scores, image_scores

    def _patch_scores(self, pictures: Pictures) -> np.ndarray:
        layers, images = from_array(self.learned["layers"]), len(pictures.tokens)
        sides = [layer.grid for layer in layers] or [round(pictures.tokens.shape[1] ** 0.5)]
        widths = self.settings.neighbourhoods
        total = len(widths) * sum(compared(images, own**2) for own in sides)
        found = []
        title = f"{self.settings.id}: pairs of images"
        with tqdm(total=total, desc=title, disable=None, file=sys.stderr) as progress:
            for number, own in enumerate(sides):
                inside = coarser(pictures.inside, own)
                shown = None if inside is None else self._on_device(inside)
                blocks = _Blocks(pictures, layers, number, shown, self._on_device)
                for width in widths:
                    read = _windows_of(blocks, width)
                    scores = mutual(read, images, self.settings.share, shown, progress.update).cpu().numpy()[:, :, None]
                    found.append(resized(extended(scores, inside), side(pictures.tokens))[:, :, 0])
        return np.asarray(np.mean(found, axis=0))

    def _image_scores(self, patch_scores: np.ndarray, pictures: Pictures) -> np.ndarray:
        settings = self.settings
        shown = extended(patch_scores[:, :, None], pictures.inside)[:, :, 0]
        scores = torch.from_numpy(shown)
        scores = scores.amax(dim=1) if settings.score_size is None else largest_of_map(scores, settings.score_size)
        if settings.neighbours:
            described = torch.from_numpy(pictures.arrays[CLASS])
            scores = rescored(scores, described, settings.neighbours, settings.similarity == "cosine")
        return scores.numpy()

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.compute.device)


class _Blocks:
    """The tokens of one layer, normalised, block by block; the first blocks stay in memory as far as :data:`TOKENS` goes."""

    def __init__(
        self,
        pictures: Pictures,
        layers: tuple[Layer, ...],
        number: int,
        shown: Tensor | None,
        on_device: Callable[[np.ndarray], Tensor],
    ) -> None:
        self.pictures, self.layers, self.number = pictures, layers, number
        self.shown, self.on_device = shown, on_device
        self.kept: dict[int, Tensor] = {}
        self.held = 0

    def __getitem__(self, rows: slice) -> Tensor:
        """Tokens [b,N,C] of ``rows``, which lie in one block."""
        start = rows.start - rows.start % BLOCK
        block = self.kept.get(start)
        if block is None:
            whole = slice(start, min(start + BLOCK, len(self.pictures.tokens)))
            part = split(self.pictures.tokens[whole], self.layers)[self.number]
            block = normalised(self.on_device(part), None if self.shown is None else self.shown[whole])
            if self.held + block.nbytes <= TOKENS:
                self.kept[start] = block
                self.held += block.nbytes
        return block[rows.start - start : rows.stop - start]


def _windows_of(blocks: _Blocks, width: int) -> Callable[[slice], Tensor]:
    return lambda rows: aggregated(blocks[rows], width)
