"""CutPaste: synthetic anomalies for training, pasted on normal pictures.

The stage ``bank`` (or ``fit``, if pairs are fresh) applies it to augmented pictures before the encoder. By default half
of the anomalies are large pieces of the picture itself and half small rotated scars, both colour-jittered (Li et al.,
CVPR 2021; sizes of the released FoundAD code). Pieces land on the object, see :mod:`foundad.pairs.foreground`. Each
choice of the released code is a key of its own and can be switched alone; docs/method.md lists them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from foundad.config.bank import Synthesis
from foundad.pairs.foreground import CATEGORY_RULES, category_mask, foreground_mask

MINIMUM_ON_OBJECT = 0.5  # share of a pasted piece that must lie on the foreground
Jitter = tuple[Sequence[int], float, float, float, float]


class CutPaste:
    """Pastes one piece of every image onto itself.

    Args:
        settings: probabilities, ranges, and which of the released code's choices apply.
        mean, std: the normalisation of the images.
    """

    def __init__(self, settings: Synthesis, mean: Sequence[float], std: Sequence[float]) -> None:
        self.settings = settings
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)
        # The released code undoes the normalisation with torchvision's Normalize, mean -m/s and deviation 1/s.
        self.inverse_mean = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(3, 1, 1)
        self.inverse_std = torch.tensor([1 / s for s in std]).view(3, 1, 1)

    def __call__(
        self,
        images: Tensor,
        generators: Sequence[np.random.Generator],
        categories: Sequence[str] | None = None,
        pictures: Sequence[tuple[slice, slice]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Damage every image with its own generator.

        Args:
            images: [B,3,H,W] float32, normalised.
            generators: one per image, so that neither batch nor order matters.
            categories: the category of every image; only the foreground ``by-category`` reads it.
            pictures: rows and columns of every image that are not padding; pieces are cut from and land on these only.

        Returns:
            Damaged images [B,3,H,W] float32, normalised, and which of their pixels were pasted, [B,H,W] bool. With
            placement ``corner`` an image stays unchanged if no corner of the piece fits on its foreground.

        Raises:
            UserError: the foreground ``by-category`` has no rule for a category.
        """
        damaged = images.clone()
        changed = torch.zeros(images.shape[0], *images.shape[2:], dtype=torch.bool)
        for number, generator in enumerate(generators):
            category = "" if categories is None else categories[number]
            rows, columns = (slice(None), slice(None)) if pictures is None else pictures[number]
            self._damage(damaged[number, :, rows, columns], changed[number, rows, columns], category, generator)
        return damaged, changed

    def _damage(self, image: Tensor, changed: Tensor, category: str, generator: np.random.Generator) -> None:
        normalised = self.settings.jitter_space == "normalised"
        foreground = self._foreground(image, category)
        is_normal = generator.random() < self.settings.normal_probability
        piece, opaque = self._normal(image, generator) if is_normal else self._scar(image, generator)
        height, width = piece.shape[1:]
        place = self._place(foreground, height, width, generator)
        if place is None:
            return
        top, left = place
        target = image[:, top : top + height, left : left + width]
        if not normalised:
            piece = (piece - self.mean) / self.std
        target.copy_(piece if opaque is None else torch.where(opaque, piece, target))
        changed[top : top + height, left : left + width] = True if opaque is None else opaque

    def _foreground(self, image: Tensor, category: str) -> np.ndarray:
        """Where pieces may land, [H,W] bool."""
        if self.settings.foreground == "whole":
            return np.ones(image.shape[1:], bool)
        if self.settings.foreground == "adaptive":
            return foreground_mask((image * self.std + self.mean).permute(1, 2, 0).numpy())
        if CATEGORY_RULES.get(category) == "everything":
            return np.ones(image.shape[1:], bool)
        unit = (image - self.inverse_mean).div_(self.inverse_std).clamp_(0, 1).mul_(255)
        return category_mask(unit.byte().permute(1, 2, 0).numpy(), category)

    def _normal(self, image: Tensor, generator: np.random.Generator) -> tuple[Tensor, None]:
        """A rectangle of the picture, [3,h,w], whose share of its area is in ``area_range``; all of it is pasted."""
        H, W = image.shape[1:]
        area = generator.uniform(*self.settings.area_range) * H * W
        aspect = generator.uniform(*self.settings.aspect_range)
        width = min(W, max(1, round(float(np.sqrt(area * aspect)))))
        height = min(H, max(1, round(float(np.sqrt(area / aspect)))))
        return self._cut(image, height, width, generator), None

    def _scar(self, image: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        """A thin rotated rectangle, sizes in pixels: [3,h,w] and which of its pixels are pasted [h,w] (None: all)."""
        H, W = image.shape[1:]
        width = min(W, int(generator.uniform(*self.settings.scar_width_range)))
        height = min(H, int(generator.uniform(*self.settings.scar_height_range)))
        piece = self._cut(image, height, width, generator)
        angle = float(generator.uniform(-self.settings.scar_angle, self.settings.scar_angle))
        with_alpha = torch.cat([piece, torch.ones(1, height, width)])
        turned = transforms.rotate(with_alpha, angle, InterpolationMode.BILINEAR, expand=True)[:, :H, :W]
        if self.settings.scar_corners == "pasted":
            # Zero is black in [0,1] and the mean colour in normalised space, where the released code rotates its scars.
            return turned[:3], None
        return turned[:3] / turned[3].clamp(min=1e-6), turned[3] >= 0.5

    def _cut(self, image: Tensor, height: int, width: int, generator: np.random.Generator) -> Tensor:
        """A jittered copy of a rectangle, [3,h,w], in the space where pieces are jittered and rotated.

        Rotation fills the corners with zeros of this space.
        """
        H, W = image.shape[1:]
        left = int(generator.integers(0, W - width + 1))
        top = int(generator.integers(0, H - height + 1))
        piece = image[:, top : top + height, left : left + width]
        if self.settings.jitter_space == "unit":
            piece = (piece * self.std + self.mean).clamp_(0, 1)
        return colour_jitter(piece, self.jitter(generator))

    def jitter(self, generator: np.random.Generator) -> Jitter:
        """Random order and factors of a colour jitter."""
        order = generator.permutation(4).tolist()
        strength = self.settings.jitter
        brightness, contrast, saturation = (float(generator.uniform(1 - strength, 1 + strength)) for _ in range(3))
        return order, brightness, contrast, saturation, float(generator.uniform(-strength, strength))

    def _place(
        self, foreground: np.ndarray, height: int, width: int, generator: np.random.Generator
    ) -> tuple[int, int] | None:
        """Top-left corner of a piece, uniform over the allowed places; None if there is none."""
        H, W = foreground.shape
        if height > H or width > W:
            return None
        columns = W - width + 1
        if foreground.all():
            return divmod(int(generator.integers(0, (H - height + 1) * columns)), columns)
        if self.settings.placement == "corner":
            allowed = foreground[: H - height + 1, :columns]
        else:
            covered = window_sums(foreground, height, width)
            # If the object is too small for a good place, the best places are allowed.
            allowed = covered >= min(MINIMUM_ON_OBJECT * height * width, covered.max())
        places = np.flatnonzero(allowed)
        if not len(places):
            return None
        return divmod(int(places[generator.integers(0, len(places))]), columns)


def colour_jitter(piece: Tensor, jitter: Jitter) -> Tensor:
    """A copy of ``piece`` [3,h,w] after brightness, contrast, saturation and hue in the order of ``jitter``.

    The result equals torchvision's four adjustments of float images, which clamp to [0,1] at each step. Colours outside
    that range are lost, as in the released code.
    """
    order, brightness, contrast, saturation, hue = jitter
    piece = piece.clone(memory_format=torch.contiguous_format)
    for operation in order:
        if operation == 0:
            piece.mul_(brightness).clamp_(0, 1)
        elif operation == 1:
            mean = _grey(piece).mean()
            piece.mul_(contrast).add_(mean * (1 - contrast)).clamp_(0, 1)
        elif operation == 2:
            grey = _grey(piece)
            piece.mul_(saturation).add_(grey.mul_(1 - saturation)).clamp_(0, 1)
        else:
            piece = _turn_hue(piece, hue)
    return piece


def _grey(colours: Tensor) -> Tensor:
    """Luma [h,w] of RGB [3,h,w], with torchvision's weights."""
    red, green, blue = colours
    return (0.2989 * red).add_(0.587 * green).add_(0.114 * blue)


def _turn_hue(colours: Tensor, hue: float) -> Tensor:
    """RGB [3,h,w] with all hues rotated by ``hue``, a share of a full turn, via HSV.

    Each channel is value * (1 - saturation * w(hue)) with a trapezoid w, which needs no table of the six sectors. The
    hue is rounded step by step as in torchvision, because its last bits matter. Beyond [0,1] all but the largest
    channel are clamped, as in torchvision.
    """
    red, green, _ = colours
    value, smallest = colours.amax(0), colours.amin(0)
    chroma = value - smallest
    divisor = chroma.where(chroma != 0, 1)
    below_red, below_green, below_blue = ((value - channel).div_(divisor) for channel in colours)
    sector = torch.where(
        value == red,
        below_blue - below_green,
        torch.where(value == green, (2 + below_red).sub_(below_blue), (4 + below_green).sub_(below_red)),
    )
    turned_hue = sector.div_(6).add_(1).fmod_(1).add_(hue).remainder_(1).mul_(6)  # sector 0 to 6
    weights = (
        (turned_hue - 3).abs_().neg_().add_(2).clamp_(0, 1),
        (turned_hue - 2).abs_().sub_(1).clamp_(0, 1),
        (turned_hue - 4).abs_().sub_(1).clamp_(0, 1),
    )
    saturation = chroma.div_(value.where(value != smallest, 1))
    turned = torch.stack([weight.mul_(saturation).neg_().add_(1).mul_(value) for weight in weights])
    if (smallest.amin() < 0) | (value.amax() > 1):
        largest = ((turned_hue + 1).fmod_(6) / 2).floor_()  # which channel holds the value
        for number, channel in enumerate(turned):
            channel.copy_(torch.where(largest == number, value, channel.clamp(0, 1)))
    return turned


def window_sums(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Number of true pixels of ``mask`` [H,W] in every window: [H-height+1, W-width+1] int64."""
    integral = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    integral[1:, 1:] = mask.cumsum(0).cumsum(1)
    return (
        integral[height:, width:]
        - integral[:-height, width:]
        - integral[height:, :-width]
        + integral[:-height, :-width]
    )
