"""What every encoder is to the rest of the harness: a frozen module from pictures to patch tokens.

Stands between decoded pictures and the stages ``features`` and ``bank``. It resizes a picture to the encoder's input, encodes
it and checks the tokens. It does not read files and does not know the library that a network comes from.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from foundad.config.encoder import Encoder
from foundad.data.frame import picture_pixels
from foundad.data.images import FILTERS, resize_square
from foundad.device import Precision, autocast, compiled
from foundad.errors import MachineError, UserError

CPU_BATCH = 4  # images a call on a CPU: more are no faster and need more memory (benchmarks/features.py --batches)


class FrozenEncoder(nn.Module):
    """A frozen network with the normalisation of its images and a check of its tokens.

    Args:
        settings: the encoder's config.
        network: normalised images [B,3,S,S] to patch tokens [B,N,D], see the files of the libraries.
        precision: what autocast computes in.
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
        self.dtype: torch.dtype = getattr(torch, precision)
        self.batch_limit: int | None = None  # images a call, once the GPU's memory was too small for more
        self.network = network.eval().requires_grad_(False)
        self.compiled = compiled(self.network) if compile_network else None
        self.register_buffer("mean", torch.tensor(settings.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stays in evaluation mode whatever is asked: the encoder is frozen."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where images must be."""
        return self.mean.device

    def normalise(self, images: np.ndarray) -> Tensor:
        """uint8 RGB images [B,S,S,3] as a normalised float32 tensor [B,3,S,S] on the encoder's device."""
        pixels = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        pixels = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        return (pixels.float() / 255 - self.mean) / self.std

    def call_size(self, batch_size: int) -> int:
        """Images a call, of ``batch_size`` that the run asks for: fewer on a CPU."""
        return min(batch_size, CPU_BATCH) if self.device.type == "cpu" else batch_size

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Patch tokens of normalised images.

        Args:
            images: [B,3,S,S] float32, S = ``settings.image_size``, normalised with ``settings.mean`` and ``std``.

        Returns:
            [B,N,D] float32, N = ``settings.grid**2`` row by row, D = ``settings.channels``; no class or register token.
        """
        with autocast(self.device, self.dtype):
            tokens: Tensor = (self.compiled or self.network)(images)
        wanted = (self.settings.grid**2, self.settings.channels)
        if tuple(tokens.shape[1:]) != wanted:
            raise UserError(
                f"{self.settings.file}: the model gives {tokens.shape[1]} tokens of "
                f"{tokens.shape[2]} channels, the config says {wanted[0]} of {wanted[1]}; "
                "mend image_size, features or channels"
            )
        return tokens.float()

    def in_memory(self, images: Tensor) -> Tensor:
        """As calling it, in parts that the GPU's memory holds: half as many images after every time it was too small.

        On a CPU the parts are those of :meth:`call_size`.

        Raises:
            UserError: it does not hold a single image.
        """
        limit = self.batch_limit or self.call_size(len(images))
        try:
            parts = [self(images[start : start + limit]) for start in range(0, len(images), limit)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        except torch.OutOfMemoryError:
            pass  # leave the handler first: it keeps the failed call's tensors alive
        if limit == 1:
            raise MachineError(f"encoder {self.settings.id}: out of memory with a single image; choose another device")
        self.batch_limit = limit // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return self.in_memory(images)


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
    """UserError that names the first picture of ``names`` whose tokens [b,N,D] float16 are not all finite."""
    # The exponent of infinities and of what is no number is all ones; several times faster than isfinite.
    wrong = ((tokens.view(np.uint16) & 0x7C00) == 0x7C00).reshape(len(tokens), -1).any(axis=1)
    if wrong.any():
        raise UserError(
            f"{names[int(wrong.argmax())]}: encoder {settings.id} gives tokens that are no numbers, or beyond float16; "
            f"check its weights, or set precision and tokens of {settings.file}"
        )
