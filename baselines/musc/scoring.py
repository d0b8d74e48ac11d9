"""The arithmetic of MuSc on tensors: neighbourhoods, mutual scoring, re-scoring. It reads no files and knows no settings."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.musc.settings import BLOCK, band


def normalised(tokens: Tensor, inside: Tensor | None = None) -> Tensor:
    """Tokens [B,N,C] with mean zero and deviation one over all tokens and channels of each image (layer normalisation).

    ``inside`` [B,N] bool: tokens that show the picture; None = all. The others count in no mean and become zeros.
    """
    if inside is None:
        return F.layer_norm(tokens, tokens.shape[1:])
    shown = inside[:, :, None]
    counts = shown.sum(dim=(1, 2), keepdim=True) * tokens.shape[2]
    centred = torch.where(shown, tokens - (tokens * shown).sum(dim=(1, 2), keepdim=True) / counts, 0)
    return centred / torch.sqrt(centred.square().sum(dim=(1, 2), keepdim=True) / counts + 1e-5)


def aggregated(tokens: Tensor, width: int) -> Tensor:
    """Tokens [B,N,C] averaged over ``width`` x ``width`` windows, zeros around the grid, and scaled to length one (LNAMD)."""
    if width > 1:
        grid = math.isqrt(tokens.shape[1])
        maps = tokens.transpose(1, 2).reshape(len(tokens), -1, grid, grid)
        tokens = F.avg_pool2d(maps, width, 1, width // 2).flatten(2).transpose(1, 2)
    return F.normalize(tokens, dim=2, eps=1e-12).contiguous()


def mutual(
    read: Callable[[slice], Tensor],
    images: int,
    share: float,
    inside: Tensor | None = None,
    progress: Callable[[int], object] = lambda pairs: None,
) -> Tensor:
    """Scores [n,N] float32 of the tokens of n images by one another (MSM, section 3.3 of the paper).

    The score of a token is its mean distance to those ``share`` of the other images (rounded down, at least one) that
    are nearest to it; the distance to an image is that to its nearest token.

    Args:
        read: rows of images -> their tokens [b,N,C], of length one.
        images: n, at least two.
        inside: [n,N] bool, tokens that show the pictures; None = all. No token is compared with the others.
        progress: called with numbers of pairs of images as they are compared.
    """
    kept = max(1, int(share * (images - 1)))
    tokens = read(slice(0, 1)).shape[1]
    rows, found = band(images, tokens), []
    for first in range(0, images, rows):
        cosines = _of_band(read, range(first, min(first + rows, images)), images, inside, progress)
        for row, nearest in enumerate(cosines):
            nearest[:, first + row] = -torch.inf  # an image does not score itself
            largest = nearest.topk(kept, dim=1).values
            found.append((2 - 2 * largest).clamp(min=0).sqrt().mean(dim=1))
    return torch.stack(found)


def _of_band(
    read: Callable[[slice], Tensor],
    rows: range,
    images: int,
    inside: Tensor | None,
    progress: Callable[[int], object],
) -> Tensor:
    """Cosine [R,N,n] of every token of the images ``rows`` to the nearest token of every image, themselves included."""
    cosines: Tensor | None = None
    for at in range(rows.start, rows.stop, BLOCK):
        own = slice(at, min(at + BLOCK, rows.stop))
        queries = read(own)
        if cosines is None:
            cosines = queries.new_empty((len(rows), queries.shape[1], images))
        for start in _others(at, rows, images):
            other = slice(start, min(start + BLOCK, images))
            both = start in rows and start != at
            vectors = queries if start == at else read(other)
            for number, tokens in enumerate(queries):
                products = (tokens @ vectors.flatten(0, 1).T).unflatten(1, vectors.shape[:2])
                row = own.start + number - rows.start
                if both:
                    shown = products if inside is None else products[inside[own.start + number]]
                    cosines[other.start - rows.start : other.stop - rows.start, :, own.start + number] = shown.amax(
                        dim=0
                    )
                if inside is not None:
                    products.masked_fill_(~inside[other], -torch.inf)
                cosines[row, :, other] = products.amax(dim=2)
            progress(len(queries) * len(vectors))
    assert cosines is not None, "a band is never empty"
    return cosines


def _others(at: int, rows: range, images: int) -> list[int]:
    """First images of the blocks that the block ``at`` meets; within the band, a block before it has met it already."""
    starts = [*range(0, rows.start, BLOCK), *range(at, rows.stop, BLOCK), *range(rows.stop, images, BLOCK)]
    return starts


def rescored(scores: Tensor, class_tokens: Tensor, sizes: Sequence[int], cosine: bool) -> Tensor:
    """Image scores [n] re-scored over the images with the most similar class tokens [n,C] (RsCIN, section 3.4 of the paper).

    Scores are first brought to [0,1]. For each of ``sizes`` (the image itself counts; all images if there are fewer) a
    score becomes the mean of the most similar images, weighted by their similarity; these means are averaged.
    """
    spread = scores.max() - scores.min()
    scores = (scores - scores.min()) / spread if spread > 0 else torch.zeros_like(scores)
    described = F.normalize(class_tokens, dim=1) if cosine else class_tokens
    similarity = described @ described.T
    found = []
    for size in sizes:
        weights, similar = similarity.topk(min(size, len(scores)), dim=1)
        total = weights.sum(dim=1)
        mean = (weights * scores[similar]).sum(dim=1) / total
        found.append(torch.where(total == 0, scores, mean))
    return torch.stack(found).mean(dim=0)


def largest_of_map(scores: Tensor, size: int) -> Tensor:
    """Largest value [n] of each map [size,size], to which patch scores [n,N] are resized: bilinear, corners aligned."""
    grid = math.isqrt(scores.shape[1])
    maps = [
        F.interpolate(image.view(1, 1, grid, grid), size=size, mode="bilinear", align_corners=True) for image in scores
    ]
    return torch.stack([each.max() for each in maps])
