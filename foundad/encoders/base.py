"""The interface of every encoder: a frozen module from pictures to named arrays, above all patch tokens.

The stages ``features`` and ``bank`` pass decoded pictures through it. It does not read files and does not know the
library that a network comes from.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from foundad.config.encoder import Encoder
from foundad.data.frame import picture_pixels
from foundad.data.images import FILTERS, resize_square
from foundad.device import Precision, arithmetic, compiled
from foundad.errors import MachineError, UserError
from foundad.paths import PATCH

CPU_BATCH = 4  # images per call on a CPU: more are not faster and need more memory (benchmarks/features.py --batches)


def normalised(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 pixels [B,S,S,3] as float32 [B,3,S,S], of mean zero and deviation one where theirs are ``mean`` and ``std``."""
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


class FrozenEncoder(nn.Module):
    """A frozen network with the normalisation of its images and a check of its tokens.

    Args:
        settings: the encoder's config.
        network: see :func:`foundad.encoders.build_network`.
        precision: what the network computes in, see :func:`foundad.device.arithmetic`.
        compile_network: run the network through torch.compile.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        settings: Encoder,
        network: nn.Module,
        precision: Precision = "float32",
        compile_network: bool = False,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.precision: Precision = precision
        self.batch_limit: int | None = None  # images per call, once the GPU's memory was too small for more
        self.network = network.eval().requires_grad_(False)
        self.compiled = compiled(self.network) if compile_network else None
        several = getattr(network, "named", None)
        self.several = compiled(several) if compile_network and several is not None else several
        self.on_cpu = tuple(torch.tensor(values).view(1, 3, 1, 1) for values in (settings.mean, settings.std))
        for name, values in zip(("mean", "std"), self.on_cpu, strict=True):
            self.register_buffer(name, values, persistent=False)

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stays in evaluation mode whatever is asked: the encoder is frozen."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """The device that images must be on."""
        return self.mean.device

    def normalise(self, images: np.ndarray) -> Tensor:
        """uint8 RGB images [B,S,S,3] as a normalised float32 tensor [B,3,S,S] on the encoder's device."""
        pixels = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        return normalised(pixels.to(self.device, non_blocking=True), self.mean, self.std)

    def normalise_on_cpu(self, images: np.ndarray) -> Tensor:
        """As :meth:`normalise`, on the CPU whatever the encoder's device: the same bits everywhere, for work on pictures."""
        return normalised(torch.from_numpy(np.ascontiguousarray(images)), *self.on_cpu)

    def call_size(self, batch_size: int) -> int:
        """Images per call when the run asks for ``batch_size``: at most ``CPU_BATCH`` on a CPU."""
        return min(batch_size, CPU_BATCH) if self.device.type == "cpu" else batch_size

    def forward(self, images: Tensor) -> Tensor:
        """Patch tokens of normalised images, as :meth:`named` gives them."""
        return self.named(images)[PATCH]

    @torch.inference_mode()
    def named(self, images: Tensor, names: Sequence[str] = (PATCH,)) -> dict[str, Tensor]:
        """The arrays ``names`` of normalised images, from one pass. Patch tokens do not depend on what else is asked for.

        Args:
            images: [B,3,S,S] float32, S = ``settings.image_size``, normalised with ``settings.mean`` and ``std``.

        Returns:
            Name -> float32. ``patch``: [B,N,D], N = ``settings.grid**2`` row by row, D = ``settings.channels``; no class
            or register token. ``class``: [B,C], see docs/encoders.md.

        Raises:
            UserError: the network gives another N or D, or only patch tokens.
        """
        with arithmetic(self.device, self.precision):
            found: dict[str, Tensor] = self._computed(images, names)
        if PATCH in found:
            self._check_shape(found[PATCH])
        return {name: array.float() for name, array in found.items()}

    def _computed(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        if tuple(names) == (PATCH,):
            return {PATCH: (self.compiled or self.network)(images)}
        if self.several is None:
            raise UserError(
                f"{self.settings.file}: key 'library': networks of {self.settings.library} give patch tokens alone, not "
                f"{' and '.join(names)}; see docs/adding.md"
            )
        result: dict[str, Tensor] = self.several(images, tuple(names))
        return result

    def _check_shape(self, tokens: Tensor) -> None:
        wanted = (self.settings.grid**2, self.settings.channels)
        if tuple(tokens.shape[1:]) != wanted:
            raise UserError(
                f"{self.settings.file}: the model gives {tokens.shape[1]} tokens of "
                f"{tokens.shape[2]} channels, the config says {wanted[0]} of {wanted[1]}; "
                "fix image_size, features or channels"
            )

    def in_memory(self, images: Tensor, names: Sequence[str] = (PATCH,)) -> dict[str, Tensor]:
        """Arrays as :meth:`named` gives them, computed in parts that fit the GPU's memory.

        Whenever the memory is too small, ``batch_limit`` is halved. On a CPU the parts have :meth:`call_size` images.

        Raises:
            MachineError: the memory does not hold a single image.
        """
        limit = self.batch_limit or self.call_size(len(images))
        try:
            parts = [self.named(images[start : start + limit], names) for start in range(0, len(images), limit)]
            return parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in names}
        except torch.OutOfMemoryError:
            pass  # leave the handler first: it keeps the failed call's tensors alive
        if limit == 1:
            raise MachineError(f"encoder {self.settings.id}: out of memory with a single image; choose another device")
        self.batch_limit = limit // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return self.in_memory(images, names)


def to_input(image: Image.Image, encoder: Encoder) -> np.ndarray:
    """``image`` (RGB) as ``encoder`` sees it, [S,S,3] uint8, resized once with antialiasing."""
    size, interpolation = encoder.image_size, encoder.interpolation
    if encoder.size_mode == "squash":
        return resize_square(image, size, interpolation)
    if encoder.size_mode == "crop":
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        return np.asarray(image.resize((size, size), FILTERS[interpolation], box=(left, top, left + side, top + side)))
    rows, columns = picture_pixels(encoder, image.width, image.height)
    shape = (columns.stop - columns.start, rows.stop - rows.start)
    pixels = np.empty((size, size, 3), np.uint8)
    pixels[:] = np.rint(np.array(encoder.mean) * 255)
    pixels[rows, columns] = np.asarray(image.resize(shape, FILTERS[interpolation]))
    return pixels


def require_finite(tokens: np.ndarray, settings: Encoder, names: Sequence[str]) -> None:
    """UserError that names the first picture of ``names`` whose tokens [b,...] float16 are not all finite."""
    # The exponent of infinities and of what is no number is all ones; several times faster than isfinite.
    wrong = ((tokens.view(np.uint16) & 0x7C00) == 0x7C00).any(axis=tuple(range(1, tokens.ndim)))
    if wrong.any():
        raise UserError(
            f"{names[int(wrong.argmax())]}: encoder {settings.id} gives tokens that are no numbers, or beyond float16; "
            f"check its weights, or set precision and tokens of {settings.file}"
        )
