"""Numbers of images per category, beside the published ones."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from foundad.data.manifest import Row

if TYPE_CHECKING:
    from foundad.config.dataset import Dataset


def counts_of(rows: Iterable[Row]) -> dict[str, tuple[int, int, int]]:
    """Images for draws, normal and defective test images of every category."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        found[row.category][0 if row.split == "train" else 1 + row.label] += 1
    return {category: (train, normal, defective) for category, (train, normal, defective) in sorted(found.items())}


def unusual_counts(dataset: "Dataset", rows: Iterable[Row]) -> list[str]:
    """Categories whose numbers of images are not the published ones, in words; nothing where none are known."""
    problems = []
    for category, found in counts_of(rows).items():
        published = dataset.counts.get(category)
        if published is not None and not as_published(found, published):
            there = found if len(published) == 3 else (found[0] + found[1], found[2])
            kinds = "draws/normal/defective" if len(published) == 3 else "normal/defective"
            numbers = "/".join(map(str, there))
            problems.append(f"{category} has {numbers} images ({kinds}), published are {'/'.join(map(str, published))}")
    return problems


def as_published(found: tuple[int, int, int], published: tuple[int, ...]) -> bool:
    """Whether the numbers of a category are those: three, or two of a set that is published without a split."""
    return found == published or (found[0] + found[1], found[2]) == published
