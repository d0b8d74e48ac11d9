"""Says which pictures of a folder are learned from, which are tested, and which only get a score.

Where the folder says it, it holds. Normal pictures that no folder assigns are split by the hash of their path, so that
the split depends neither on their order nor on what else is there. A set without a single defective picture has folds:
each normal picture is left out of one, whose model, of a few of the others, is tried on it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from foundad.errors import UserError
from foundad.own.folder import Picture

HELD_OUT = 3  # one of so many normal pictures is held out for the test where the folder has no normal test pictures
FOLDS = 4  # at least; a model learns from few pictures, so that several can be left out at a time


@dataclass(frozen=True)
class Split:
    """Pictures that are learned from or tested (``split`` is train or test), and those that only get a score.

    labelled: whether there are defective pictures, so that methods can be compared. folds: for sets without, the normal
    pictures that each fold leaves out. said: lines about what was decided here.
    """

    pictures: list[Picture]
    scored: list[Picture]
    labelled: bool
    folds: list[list[Picture]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def pool(self) -> int:
        """Normal pictures to learn from in the category that has the fewest; one fold may have fewer by its own share."""
        return min(self._of(category, "train") for category in self.categories)

    @property
    def categories(self) -> list[str]:
        return sorted({picture.category for picture in self.pictures})

    def _of(self, category: str, split: str) -> int:
        return sum(picture.category == category and picture.split == split for picture in self.pictures)


def split(pictures: Iterable[Picture], where: str, shots: int) -> Split:
    """Split the readable ``pictures`` of the folder ``where``, of which ``shots`` per category are to be learned from.

    Raises:
        UserError: there are fewer than two normal pictures: one to learn from, one to test.
    """
    by_category: dict[str, list[Picture]] = {}
    scored = []
    for picture in pictures:
        if picture.label is None:
            scored.append(picture)
        else:
            by_category.setdefault(picture.category, []).append(picture)
    defective = {name for name, found in by_category.items() if any(picture.label for picture in found)}
    kept, said = [], []
    for name, found in sorted(by_category.items()):
        normal = sum(picture.label == 0 for picture in found)
        title = f"category {name}: " if name else ""
        if defective and name not in defective:
            said.append(f"{title}left out, because it has no defective picture; run its folder alone")
        elif normal < 2 and len(by_category) > 1:
            said.append(f"{title}left out, because it has {normal} normal pictures")
        elif normal < 2:
            count = "no readable normal picture" if not normal else "one normal picture"
            raise UserError(f"{where}: holds {count}; two are the least, one to learn from and one to test")
        else:
            chosen, lines = _split_category(found)
            kept += chosen
            said += [title + line for line in lines]
    if not kept:
        raise UserError(
            f"{where}: no category has two normal pictures; two are the least, one to learn from, one to test"
        )
    folds = [] if defective else _folds(kept, shots)
    return Split(kept, scored, bool(defective), folds, said)


def _split_category(pictures: list[Picture]) -> tuple[list[Picture], list[str]]:
    """The pictures of one category as train or test, and lines about what was decided."""
    normal = [picture for picture in pictures if picture.label == 0]
    train = [picture for picture in normal if picture.split != "test"]
    test = [picture for picture in normal if picture.split == "test"]
    defective = [replace(picture, split="test") for picture in pictures if picture.label]
    said: list[str] = []
    if train and test:
        return [replace(picture, split="train") for picture in train] + test + defective, said
    ranked = sorted(normal, key=_hash)
    count = max(1, len(normal) // HELD_OUT)
    said.append(f"{count} of {len(normal)} normal pictures are held out for the test, by the hash of their names")
    held = [replace(picture, split="test") for picture in ranked[:count]]
    return [replace(picture, split="train") for picture in ranked[count:]] + held + defective, said


def _folds(pictures: list[Picture], shots: int) -> list[list[Picture]]:
    """The normal pictures in as few parts as leave ``shots`` others, but :data:`FOLDS` at least; one by one if need be."""
    by_category: dict[str, list[Picture]] = {}
    for picture in sorted(pictures, key=_hash):
        by_category.setdefault(picture.category, []).append(picture)
    fewest = min(map(len, by_category.values()))
    count = next(
        (parts for parts in range(min(FOLDS, fewest), fewest) if fewest - -(-fewest // parts) >= shots), fewest
    )
    return [[picture for found in by_category.values() for picture in found[fold::count]] for fold in range(count)]


def _hash(picture: Picture) -> str:
    return hashlib.sha256(picture.path.encode("utf-8", "surrogatepass")).hexdigest()
