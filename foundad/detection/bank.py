"""The tokens that a detector learns from: of drawn images and of pairs, stored or freshly made, and their preparation.

Stands between the stage ``bank`` and a detector's ``fit``. Numpy only; nothing is encoded here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foundad.config.encoder import Layer
from foundad.data.patches import any_padding, seen_inside
from foundad.detection.pictures import Pictures
from foundad.sealed import Seal, broken, read_tensors

if TYPE_CHECKING:  # whoever has a draw has imported it
    from foundad.data.draws import Draw

CALIBRATION_PAIRS, CALIBRATION_START = 64, 1 << 40


@dataclass(frozen=True)
class FreshPairs:
    """Pairs of some of the drawn images, made and encoded on request (FoundAD as published).

    make: :meth:`foundad.pairs.encoder.PairEncoder.pairs`. sources: numbers of the drawn images that these pairs show.
    preparation: how tokens are prepared; :meth:`BankTokens.prepared` sets it.
    """

    make: Callable[[Sequence[int], Sequence[int], Sequence[bool]], tuple[np.ndarray, np.ndarray, np.ndarray | None]]
    sources: list[int]
    preparation: "Preparation | None" = None

    def encode(
        self, images: Sequence[int], numbers: Sequence[int], damaged: Sequence[bool]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Prepared clean and input tokens, each [B,N,D] float32, and which are not padding ([B,N] bool, None = all).

        Args:
            images: indices into :attr:`sources`.
            numbers: of the pairs; each number fixes the random numbers of its pair.
            damaged: whether each input shows a synthetic anomaly.
        """
        assert self.preparation is not None, "prepare first"
        clean, inputs, inside = self.make([self.sources[image] for image in images], numbers, damaged)
        return self.preparation.apply(clean), self.preparation.apply(inputs), any_padding(inside)

    def normal(self, images: Sequence[int], numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
        """Prepared clean tokens [B,N,D] float32, and which are not padding ([B,N] bool, None = all)."""
        assert self.preparation is not None, "prepare first"
        clean, _, inside = self.make([self.sources[image] for image in images], numbers, [False] * len(images))
        return self.preparation.apply(clean), inside


@dataclass(frozen=True)
class BankTokens:
    """What a detector learns from: patch tokens as float32 or float16 arrays.

    normal: [S,N,D], the drawn images and their support views, not augmented. clean, synthetic: [P,N,D], augmented drawn
    images before and after CutPaste; row i of both is pair i. normal_categories, pair_categories: the category of each
    row. fresh: makes pairs on request, for methods that need the images. inside: [P,N] bool, the patches of each pair
    that show the picture; None = all. inside_normal: the same for ``normal``, [S,N] bool. All other tokens are padding,
    and no method learns from them. viewed: query view -> ``normal`` and ``clean`` under that view. layers: the
    encoder's layers, whose channels stand side by side in a token. arrays: what else the encoder says of the pictures of
    ``normal`` and ``clean``: query view (empty: none) -> name, such as ``class`` -> one row for each, [S,C] and [P,C].
    """

    normal: np.ndarray
    normal_categories: list[str]
    clean: np.ndarray
    synthetic: np.ndarray
    pair_categories: list[str]
    fresh: FreshPairs | None = None
    inside: np.ndarray | None = None
    viewed: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    inside_normal: np.ndarray | None = None
    arrays: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, of: tuple["Draw", str] | None = None, key: str | None = None) -> tuple["BankTokens", str]:
        """Read the tokens that the stage ``bank`` wrote; returns them and the hash of their draw.

        Args:
            of: draw and encoder that the tokens must belong to, row by row; None = any.
            key: that the file must have; None = any.

        Raises:
            BrokenFile: the file is damaged or belongs to something else.
        """
        arrays, seal = read_tensors(path, "bank", key)
        try:
            if of is not None:
                _require_of(path, seal, *of)
            bank, pairs = cls.of_arrays(arrays, seal.facts), len(seal["pair_ids"])
            if (len(bank.normal), len(bank.clean), len(bank.synthetic)) != (len(seal["normal_ids"]), pairs, pairs):
                raise broken(path, "has not one row for each of its images")
            return bank, seal["draw"]
        except (KeyError, TypeError) as error:
            raise broken(path, f"is not a bank ({error})") from None

    def with_array(
        self, name: str, path: Path, of: tuple["Draw", str] | None = None, key: str | None = None
    ) -> "BankTokens":
        """The same bank with the array ``name`` of its pictures, which the stage ``bank`` wrote to ``path``.

        Raises:
            BrokenFile: the file is damaged or belongs to something else.
        """
        stored, seal = read_tensors(path, "bank", key)
        try:
            if of is not None:
                _require_of(path, seal, *of)
            bank = self.with_rows(name, stored)
        except (KeyError, TypeError) as error:
            raise broken(path, f"is not a bank ({error})") from None
        rows = [found[name] for found in bank.arrays.values()]
        if any((len(normal), len(clean)) != (len(self.normal), len(self.clean)) for normal, clean in rows):
            raise broken(path, "has not one row for each of its images")
        return bank

    def with_rows(self, name: str, stored: Mapping[str, np.ndarray]) -> "BankTokens":
        """The same bank with the array ``name``, of the contents of its file; KeyError if some are missing."""
        views = {"": "", **{view: f"@{view}" for view in self.viewed}}
        found = {view: (stored[f"normal{at}"], stored[f"clean{at}"]) for view, at in views.items()}
        return replace(self, arrays={view: {**self.arrays.get(view, {}), name: rows} for view, rows in found.items()})

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> "BankTokens":
        """The bank that :func:`foundad.pairs.encoder.encode_bank` gives as arrays and facts; KeyError if one is missing."""
        return cls(
            arrays["normal"],
            facts["normal_categories"],
            arrays["clean"],
            arrays["synthetic"],
            facts["pair_categories"],
            inside=arrays.get("inside"),
            viewed={view: (arrays[f"normal@{view}"], arrays[f"clean@{view}"]) for view in facts["queries"]},
            inside_normal=arrays.get("inside_normal"),
        )

    @classmethod
    def empty(cls, tokens: int, channels: int) -> "BankTokens":
        """A bank without images, for controls that learn nothing."""
        none = np.empty((0, tokens, channels), np.float16)
        return cls(none, [], none, none, [])

    def of(self, category: str) -> "BankTokens":
        """The part of the bank that belongs to one category."""
        normal = [i for i, name in enumerate(self.normal_categories) if name == category]
        pairs = [i for i, name in enumerate(self.pair_categories) if name == category]
        return BankTokens(
            self.normal[normal],
            [category] * len(normal),
            self.clean[pairs],
            self.synthetic[pairs],
            [category] * len(pairs),
            self.fresh and replace(self.fresh, sources=[self.fresh.sources[number] for number in normal]),
            None if self.inside is None else self.inside[pairs],
            {view: (seen[normal], clean[pairs]) for view, (seen, clean) in self.viewed.items()},
            self.layers,
            None if self.inside_normal is None else self.inside_normal[normal],
            {
                view: {name: (seen[normal], clean[pairs]) for name, (seen, clean) in arrays.items()}
                for view, arrays in self.arrays.items()
            },
        )

    def array_of_normal(self, name: str) -> np.ndarray:
        """What the encoder says of the pictures of ``normal`` in its array ``name``, [S,C] float32."""
        return self.arrays[""][name][0].astype(np.float32)

    def normal_vectors(self) -> np.ndarray:
        """The patch tokens of the drawn images without padding, image by image, [M,D]."""
        if any_padding(self.inside_normal) is None:
            return self.normal.reshape(-1, self.normal.shape[-1])
        return self.normal[self.inside_normal]

    def under(self, view: str) -> "BankTokens":
        """The same pictures under a query view, without their anomalies; the bank itself if ``view`` is empty."""
        if not view:
            return self
        normal, clean = self.viewed[view]
        inside, inside_normal = (seen_inside(kept, view) for kept in (self.inside, self.inside_normal))
        seen = replace(self, normal=normal, clean=clean, synthetic=clean, inside=inside, inside_normal=inside_normal)
        return replace(seen, viewed={}, arrays={"": self.arrays.get(view, {})})

    def calibration(self) -> Pictures:
        """Normal images to set a threshold with: the augmented images, never the synthetic anomalies."""
        if self.fresh is None or not self.fresh.sources:
            arrays = {name: clean.astype(np.float32) for name, (_, clean) in self.arrays.get("", {}).items()}
            return Pictures(self.clean, self.inside, arrays, _calibration_ids(len(self.clean)))
        images = [number % len(self.fresh.sources) for number in range(CALIBRATION_PAIRS)]
        # Training never reaches these numbers, so it has not seen these pictures.
        numbers = range(CALIBRATION_START, CALIBRATION_START + CALIBRATION_PAIRS)
        return Pictures(*self.fresh.normal(images, numbers), ids=_calibration_ids(CALIBRATION_PAIRS))

    def prepared(self, preparation: "Preparation") -> "BankTokens":
        """The same tokens, prepared as methods read them, float32."""
        return BankTokens(
            preparation.apply(self.normal),
            self.normal_categories,
            preparation.apply(self.clean),
            preparation.apply(self.synthetic),
            self.pair_categories,
            self.fresh and replace(self.fresh, preparation=preparation),
            inside=any_padding(self.inside),
            layers=self.layers,
            inside_normal=any_padding(self.inside_normal),
            arrays=self.arrays,
        )


def _calibration_ids(count: int) -> list[str]:
    return [f"calibration/{number}" for number in range(count)]


def _require_of(path: Path, seal: Seal, draw: "Draw", encoder: str) -> None:
    """BrokenFile where the bank ``path`` is of another cell, or a row of it of another image than ``draw`` has there."""
    dataset, name, shots, seed = (seal[fact] for fact in ("dataset", "encoder", "shots", "seed"))
    if (dataset, name, shots, seed) != (draw.dataset, encoder, draw.shots, draw.seed):
        raise broken(path, f"is the bank of {dataset}/{name}/k{shots}-s{seed}")
    categories = dict(zip(draw.image_ids, draw.categories, strict=True))
    normal, pairs = seal["normal_ids"], seal["pair_ids"]
    views = max(1, len(normal) // max(1, len(draw.image_ids)))
    same = seal["draw"] == draw.hash and normal == draw.image_ids * views
    for ids, named in ((normal, seal["normal_categories"]), (pairs, seal["pair_categories"])):
        same = same and [categories.get(image_id) for image_id in ids] == named
    if not same:
        raise broken(path, "its rows are not the images of the draw")


@dataclass(frozen=True)
class Preparation:
    """How stored patch tokens become what a method reads (the encoder's key ``tokens``).

    kind: ``raw``, ``unit`` or ``standardised``. mean, deviation: [D] float32, per channel over the drawn images; zero
    and one unless ``standardised``.
    """

    kind: str
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, kind: str, tokens: np.ndarray) -> "Preparation":
        """The preparation of ``kind`` with the statistics of ``tokens`` [...,D]; constant channels are not scaled."""
        channels = tokens.shape[-1]
        if kind != "standardised" or not len(tokens):
            return cls(kind, np.zeros(channels, np.float32), np.ones(channels, np.float32))
        flat = tokens.reshape(-1, channels).astype(np.float64)
        deviation = flat.std(axis=0)
        deviation[deviation < 1e-6] = 1.0
        return cls(kind, flat.mean(axis=0).astype(np.float32), deviation.astype(np.float32))

    def apply(self, tokens: np.ndarray) -> np.ndarray:
        """Prepare ``tokens`` [B,N,D] as float32.

        ``unit`` scales every token to a root mean square of one; a token of zeros stays zero.
        """
        tokens = tokens.astype(np.float32)
        if self.kind == "standardised":
            return (tokens - self.mean) / self.deviation
        if self.kind == "unit":
            squares = np.einsum("...d,...d->...", tokens, tokens)[..., None] / tokens.shape[-1]
            return tokens / np.sqrt(np.maximum(squares, 1e-12))
        return tokens
