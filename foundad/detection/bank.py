"""What a detector learns from: the tokens of drawn images and of pairs, stored or made afresh, prepared as methods read them.

Stands between the stage ``bank`` and a detector's ``fit``. Numpy only; it encodes nothing itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from foundad.config.encoder import Layer
from foundad.data.patches import any_padding, seen_inside
from foundad.sealed import broken, read_tensors

CALIBRATION_PAIRS, CALIBRATION_START = 64, 1 << 40


@dataclass(frozen=True)
class FreshPairs:
    """Pairs that are made and encoded when they are asked for (FoundAD as published), of some of the drawn images.

    make: :meth:`foundad.pairs.encoder.PairEncoder.pairs`. sources: drawn images that these pairs show.
    """

    make: Callable[[Sequence[int], Sequence[int], Sequence[bool]], tuple[np.ndarray, np.ndarray, np.ndarray | None]]
    sources: list[int]
    preparation: "Preparation | None" = None

    def encode(
        self, images: Sequence[int], numbers: Sequence[int], damaged: Sequence[bool]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Prepared clean and input tokens [B,N,D] float32, and which are no padding ([B,N] bool, None = all).

        ``images`` count in :attr:`sources`.
        """
        assert self.preparation is not None, "prepare first"
        clean, inputs, inside = self.make([self.sources[image] for image in images], numbers, damaged)
        return self.preparation.apply(clean), self.preparation.apply(inputs), any_padding(inside)

    def normal(self, images: Sequence[int], numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
        """Prepared clean tokens [B,N,D] float32, and which are no padding ([B,N] bool, None = all)."""
        assert self.preparation is not None, "prepare first"
        clean, _, inside = self.make([self.sources[image] for image in images], numbers, [False] * len(images))
        return self.preparation.apply(clean), inside


@dataclass(frozen=True)
class BankTokens:
    """What a detector learns from: patch tokens as float32 or float16 arrays.

    normal: [S,N,D] of the drawn images as they are. clean, synthetic: [P,N,D] of augmented drawn images before and after
    CutPaste, pair by pair. The categories name each row. fresh: a source of pairs for methods that need the images.
    inside: [P,N] bool, which patches of each pair show the picture; None = all, as long as encoders do not pad.
    inside_normal: the same of ``normal``, [S,N] bool. The other tokens are padding and no data: no method learns from them.
    viewed: query view -> the arrays ``normal`` and ``clean`` of the same pictures under it. layers: side by side in a token.
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

    @classmethod
    def load(
        cls, path: Path, of: tuple[str, str, int, int] | None = None, key: str | None = None
    ) -> tuple["BankTokens", str]:
        """The tokens that the stage ``bank`` wrote, and the hash of the draw they come from.

        Args:
            of: dataset, encoder, shots and seed that they must belong to; None: any. key: the one they must have; None: any.

        Raises:
            BrokenFile: the file is damaged, or of something else.
        """
        arrays, seal = read_tensors(path, "bank", key)
        try:
            if of is not None and (seal["dataset"], seal["encoder"], seal["shots"], seal["seed"]) != of:
                raise broken(
                    path, f"is the bank of {seal['dataset']}/{seal['encoder']}/k{seal['shots']}-s{seal['seed']}"
                )
            normal, clean, synthetic = (arrays[name] for name in ("normal", "clean", "synthetic"))
            viewed = {v: (arrays[f"normal@{v}"], arrays[f"clean@{v}"]) for v in seal["queries"]}
            categories = seal["normal_categories"], seal["pair_categories"]
            bank = cls(normal, categories[0], clean, synthetic, categories[1], None, arrays.get("inside"), viewed)
            bank = replace(bank, inside_normal=arrays.get("inside_normal"))
            return bank, seal["draw"]
        except (KeyError, TypeError) as error:
            raise broken(path, f"is no bank ({error})") from None

    @classmethod
    def empty(cls, tokens: int, channels: int) -> "BankTokens":
        """No images at all, for controls that learn nothing."""
        none = np.empty((0, tokens, channels), np.float16)
        return cls(none, [], none, none, [])

    def of(self, category: str) -> "BankTokens":
        """The part of one category."""
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
        )

    def normal_vectors(self) -> np.ndarray:
        """The patch tokens of the drawn images as a set, [M,D]: all but those of the padding, image by image."""
        if any_padding(self.inside_normal) is None:
            return self.normal.reshape(-1, self.normal.shape[-1])
        return self.normal[self.inside_normal]

    def under(self, view: str) -> "BankTokens":
        """The same pictures under a query view (without their anomalies); the bank itself where ``view`` is empty."""
        if not view:
            return self
        normal, clean = self.viewed[view]
        inside, inside_normal = (seen_inside(kept, view) for kept in (self.inside, self.inside_normal))
        return replace(
            self, normal=normal, clean=clean, synthetic=clean, viewed={}, inside=inside, inside_normal=inside_normal
        )

    def calibration(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Normal images to set a threshold with, [P,N,D], and which patches are no padding ([P,N] bool, None = all).

        The augmented images, never the synthetic anomalies.
        """
        if self.fresh is None or not self.fresh.sources:
            return self.clean, self.inside
        images = [number % len(self.fresh.sources) for number in range(CALIBRATION_PAIRS)]
        # Numbers that training does not reach: pictures it has not seen.
        numbers = range(CALIBRATION_START, CALIBRATION_START + CALIBRATION_PAIRS)
        return self.fresh.normal(images, numbers)

    def prepared(self, preparation: "Preparation") -> "BankTokens":
        """The same tokens as methods read them, float32."""
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
        )


@dataclass(frozen=True)
class Preparation:
    """How stored patch tokens become what a method reads (the encoder's key ``tokens``).

    mean, deviation: [D] float32 of every channel over the drawn images; zero and one unless ``standardised``.
    """

    kind: str
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, kind: str, tokens: np.ndarray) -> "Preparation":
        """The preparation of ``kind`` with the statistics of ``tokens`` [...,D]; a constant channel keeps its scale."""
        channels = tokens.shape[-1]
        if kind != "standardised" or not len(tokens):
            return cls(kind, np.zeros(channels, np.float32), np.ones(channels, np.float32))
        flat = tokens.reshape(-1, channels).astype(np.float64)
        deviation = flat.std(axis=0)
        deviation[deviation < 1e-6] = 1.0
        return cls(kind, flat.mean(axis=0).astype(np.float32), deviation.astype(np.float32))

    def apply(self, tokens: np.ndarray) -> np.ndarray:
        """``tokens`` [B,N,D] as float32; a token of zeros stays zero."""
        tokens = tokens.astype(np.float32)
        if self.kind == "standardised":
            return (tokens - self.mean) / self.deviation
        if self.kind == "unit":
            squares = np.einsum("...d,...d->...", tokens, tokens)[..., None] / tokens.shape[-1]
            return tokens / np.sqrt(np.maximum(squares, 1e-12))
        return tokens
