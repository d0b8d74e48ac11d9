"""CutPaste: synthetic anomalies for training, pasted on normal pictures.

Stands in the stage ``bank``, between the augmented picture and the encoder. Half of the anomalies are large pieces of
the picture itself, half small rotated scars, both colour-jittered (Li et al., CVPR 2021; sizes of the released FoundAD
code). Pieces land on the object, see :mod:`foundad.foreground`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from foundad.config import Synthesis
from foundad.foreground import foreground_mask

MINIMUM_ON_OBJECT = 0.5  # share of a pasted piece that must lie on the foreground


class CutPaste:
    """Pastes one piece of every image onto itself.

    Args:
        settings: probabilities and ranges.
        mean, std: the encoder's normalisation, undone for the colour jitter alone.
    """

    def __init__(self, settings: Synthesis, mean: Sequence[float], std: Sequence[float]) -> None:
        self.settings = settings
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)

    def __call__(self, images: Tensor, generators: Sequence[np.random.Generator]) -> tuple[Tensor, Tensor]:
        """Damage every image with its own generator.

        Args:
            images: [B,3,H,W] float32, normalised.
            generators: B of them, so that neither batch nor order matters.

        Returns:
            Damaged images [B,3,H,W] float32, normalised, and where they were pasted on, [B,H,W] bool.
        """
        damaged = images.clone()
        changed = torch.zeros(images.shape[0], *images.shape[2:], dtype=torch.bool)
        for image, mask, generator in zip(damaged, changed, generators, strict=True):
            self._damage(image, mask, generator)
        return damaged, changed

    def _damage(self, image: Tensor, changed: Tensor, generator: np.random.Generator) -> None:
        unit = image * self.std + self.mean
        is_normal = generator.random() < self.settings.normal_probability
        piece, opaque = self._normal(unit, generator) if is_normal else self._scar(unit, generator)
        height, width = piece.shape[1:]
        top, left = self._place(unit, height, width, generator)
        target = image[:, top : top + height, left : left + width]
        target.copy_(torch.where(opaque, (piece - self.mean) / self.std, target))
        changed[top : top + height, left : left + width] |= opaque

    def _normal(self, unit: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A rectangle of 2 to 25 % of the picture: [3,h,w] and which of its pixels are pasted [h,w]."""
        H, W = unit.shape[1:]
        area = generator.uniform(*self.settings.area_range) * H * W
        aspect = generator.uniform(*self.settings.aspect_range)
        width = min(W, max(1, round(float(np.sqrt(area * aspect)))))
        height = min(H, max(1, round(float(np.sqrt(area / aspect)))))
        piece = self._cut(unit, height, width, generator)
        return piece, torch.ones(height, width, dtype=torch.bool)

    def _scar(self, unit: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A thin rotated rectangle, sizes in pixels; the corners of its rotated frame are not pasted."""
        H, W = unit.shape[1:]
        width = min(W, int(generator.uniform(*self.settings.scar_width_range)))
        height = min(H, int(generator.uniform(*self.settings.scar_height_range)))
        piece = self._cut(unit, height, width, generator)
        angle = float(generator.uniform(-self.settings.scar_angle, self.settings.scar_angle))
        with_alpha = torch.cat([piece, torch.ones(1, height, width)])
        turned = transforms.rotate(with_alpha, angle, InterpolationMode.BILINEAR, expand=True)[:, :H, :W]
        alpha = turned[3].clamp(min=1e-6)
        return turned[:3] / alpha, turned[3] >= 0.5

    def _cut(self, unit: Tensor, height: int, width: int, generator: np.random.Generator) -> Tensor:
        H, W = unit.shape[1:]
        top = int(generator.integers(0, H - height + 1))
        left = int(generator.integers(0, W - width + 1))
        return self._jitter(unit[:, top : top + height, left : left + width], generator)

    def _jitter(self, piece: Tensor, generator: np.random.Generator) -> Tensor:
        """Brightness, contrast, saturation and hue in random order, on values in [0,1] (finite for any picture)."""
        strength = self.settings.jitter
        piece = piece.clamp(0, 1)
        factors = generator.uniform(1 - strength, 1 + strength, size=3)
        hue = float(generator.uniform(-strength, strength))
        for operation in generator.permutation(4):
            if operation == 0:
                piece = transforms.adjust_brightness(piece, float(factors[0]))
            elif operation == 1:
                piece = transforms.adjust_contrast(piece, float(factors[1]))
            elif operation == 2:
                piece = transforms.adjust_saturation(piece, float(factors[2]))
            else:
                piece = transforms.adjust_hue(piece, hue)
        return piece

    def _place(self, unit: Tensor, height: int, width: int, generator: np.random.Generator) -> tuple[int, int]:
        """Top-left corner, uniform over all places where at least half of the piece lies on the foreground."""
        H, W = unit.shape[1:]
        if self.settings.foreground == "whole":
            return int(generator.integers(0, H - height + 1)), int(generator.integers(0, W - width + 1))
        mask = foreground_mask(unit.permute(1, 2, 0).numpy())
        integral = np.zeros((H + 1, W + 1), np.int64)
        integral[1:, 1:] = mask.cumsum(0).cumsum(1)
        covered = (
            integral[height:, width:]
            - integral[:-height, width:]
            - integral[height:, :-width]
            + integral[:-height, :-width]
        )
        # The best places, where a small object leaves none that is good enough.
        places = np.flatnonzero(covered >= min(MINIMUM_ON_OBJECT * height * width, covered.max()))
        top, left = divmod(int(places[generator.integers(len(places))]), covered.shape[1])
        return top, left
