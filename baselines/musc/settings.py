"""Keys of MuSc, and what it costs; without torch, because validation and planning read it."""

from math import ceil
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from foundad.config.base import Odd
from foundad.config.method import Method, Need

if TYPE_CHECKING:
    from foundad.config.encoder import Encoder

BLOCK = 8  # images whose tokens are compared in one product
TOKENS = 2 << 30  # bytes of tokens that stay in memory; what does not fit is read again
COSINES = 1 << 30  # bytes of the cosines that wait until an image has been compared with all others
FLOAT32 = 4


class Settings(Method):
    """Keys of MuSc beside the common ones. The image score is the largest value of the map before it is re-scored.

    ``score_size`` is the side of that map: bilinear between its corners, as the released code resizes it.
    """

    detector: Literal["musc"] = "musc"
    neighbourhoods: list[Odd] = Field(
        [1, 3, 5],
        min_length=1,
        description="sides of the windows that tokens are averaged over; their scores are averaged",
    )
    share: float = Field(
        0.3,
        gt=0,
        le=1,
        description="share of the other images, those with the nearest tokens, whose distances are averaged",
    )
    neighbours: list[int] = Field(
        [1, 2, 3],
        description="numbers of images, the image itself among them, that share a score, by their class tokens; empty = none",
    )
    similarity: Literal["cosine", "product"] = Field(
        "cosine", description="of class tokens; the released code has the cosine for CLIP, the inner product for DINO"
    )

    @property
    def needs(self) -> frozenset[Need]:
        """All test images at once, and no drawn image."""
        found: frozenset[Need] = frozenset({"features", "test set"})
        return found | ({"class"} if self.neighbours else set())

    @property
    def uses_device(self) -> bool:
        """Always: it compares every token with every other."""
        return True

    def numbers(self, drawn: int, encoder: "Encoder") -> float:
        """It learns nothing."""
        return 0.0

    def operations(self, drawn: int, tested: int, categories: int, encoder: "Encoder") -> float:
        """Every pair of images of a category once: the products of their tokens, per layer and neighbourhood."""
        parts = categories if self.scope == "category" else 1
        products = sum(layer.channels * layer.grid**4 for layer in encoder.layers)
        return 2.0 * parts * compared(ceil(tested / parts), encoder.grid**2) * products * len(self.neighbourhoods)

    def held(self, images: int, encoder: "Encoder") -> int:
        """Tokens, cosines, and the products of a block."""
        largest = max(layer.channels for layer in encoder.layers)
        tokens = min(TOKENS, images * encoder.grid**2 * largest * FLOAT32)
        cosines = band(images, encoder.grid**2) * encoder.grid**2 * images * FLOAT32
        blocks = 4 * BLOCK * encoder.grid**2 * encoder.channels * FLOAT32
        return tokens + cosines + blocks + 2 * BLOCK * encoder.grid**4 * FLOAT32


def band(images: int, tokens: int) -> int:
    """How many of ``images`` with ``tokens`` each are scored at a time: all, or whole blocks whose cosines fit in memory."""
    fitting = COSINES // (tokens * images * FLOAT32)
    return images if fitting >= images else max(BLOCK, fitting - fitting % BLOCK)


def compared(images: int, tokens: int) -> int:
    """Pairs of images whose tokens are multiplied. Within a band a pair serves both of its images."""
    rows, total = band(images, tokens), 0
    for first in range(0, images, rows):
        own = min(rows, images - first)
        total += own * (images - own) + sum(min(BLOCK, own - at) * (own - at) for at in range(0, own, BLOCK))
    return total
