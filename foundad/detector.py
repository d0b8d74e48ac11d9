"""The Detector protocol, and the Model that a cell saves: detectors, their preparation of tokens and how to score with them.

Stands at the end of ``fit`` and behind ``foundad predict``. Works on numpy arrays, so that a method without torch never
imports it. It does not train anything and does not read images.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from foundad import config, registry
from foundad.device import ON_CPU, Compute
from foundad.errors import UserError
from foundad.padding import any_padding, filled, seen_inside
from foundad.scores import top_k_mean
from foundad.sealed import Seal, broken, read_tensors, write_tensors
from foundad.views import turned_back

POOLED = "pooled"
FALSE_POSITIVE_RATE = 0.05  # that the threshold of a model aims at
CALIBRATION_PAIRS, CALIBRATION_START = 64, 1 << 40


@dataclass(frozen=True)
class FreshPairs:
    """Pairs that are made and encoded when they are asked for (FoundAD as published), of some of the drawn images.

    make: :meth:`foundad.bank.PairEncoder.pairs`. sources: drawn images that these pairs show.
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
    layers: tuple[config.Layer, ...] = ()
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


class Detector(Protocol):
    """One method: built from (settings, seed, device), it learns from a bank and scores patch tokens.

    Two methods are there for those that need them, and are called instead of ``score``:

    ``score_images(tokens, inside)`` gives the patch scores [B,N] and the image scores [B] of tokens [B,N,D], or None for the
    latter where they are the mean of the largest patch scores after all. ``inside`` [B,N] bool says which patches show the
    picture, None where all do; the others are padding. For methods that look at more of an image than one token at a time.

    ``score_named(tokens, image_ids)`` gives the patch scores of images whose ids count, as in the control ``random``.
    """

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Learn from prepared tokens; returns what the record should hold (losses, sizes)."""

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Patch scores [B,N] float32, higher = more anomalous, of prepared tokens [B,N,D] float32."""

    def state(self) -> dict[str, np.ndarray]:
        """All that :meth:`score` needs, as arrays."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what :meth:`state` gave."""


def upper_quantile(scores: np.ndarray, rate: float) -> float | None:
    """The threshold that a further normal image exceeds with a probability of at most ``rate``, from normal ``scores`` [n].

    The ceil((n + 1) * (1 - rate))-th smallest: a bound for any distribution and any n (split conformal prediction, Vovk et
    al.), as far as the scores are exchangeable with the new one. None where n is too small for it (below 19 at 0.05).
    """
    position = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return float(np.sort(scores)[position - 1]) if position <= len(scores) else None


def _key(name: str, view: str) -> str:
    """Of a part of a model: no category is named with the sign that sets a query view apart."""
    return f"{name}@{view}" if view else name


class Model:
    """A fitted method with everything scoring needs: what ``model.safetensors`` of a cell holds."""

    def __init__(
        self,
        method: config.Method,
        encoder: config.Encoder,
        seed: int,
        top_k: int,
        compute: Compute = ON_CPU,
    ) -> None:
        self.method = method
        self.encoder = encoder
        self.seed = seed
        self.top_k = top_k
        self.compute = compute
        self.parts: dict[str, tuple[Preparation, Detector]] = {}
        self.thresholds: dict[str, float | None] = {}
        self.precision: config.Precision = compute.precision  # that it was fitted in, and that its threshold belongs to
        self.origin: dict[str, float] = {}  # of an imported checkpoint: its epoch and learning rate

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Fit one detector on the whole bank, or one a category (key ``scope``); returns the detectors' records."""
        bank = replace(bank, layers=self.encoder.layers)
        by_category = self.method.scope == "category"
        names = sorted(set(bank.normal_categories)) if by_category else [POOLED]
        record: dict[str, Any] = {}
        for name in names:
            part = bank.of(name) if by_category else bank
            calibration: dict[str, np.ndarray] = {}
            inside = None  # of the pictures as they are, to which maps are turned back
            for view in self.views:
                seen = part.under(view)
                preparation = Preparation.of(self.encoder.tokens, seen.normal_vectors())
                detector = registry.build(self.method, self.seed, self.compute)
                prepared = seen.prepared(preparation)
                details = detector.fit(prepared)
                record.setdefault(name, details | {"state_bytes": 0})
                record[name]["state_bytes"] += sum(array.nbytes for array in detector.state().values())
                self.parts[_key(name, view)] = (preparation, detector)
                calibration[view], shown = prepared.calibration()
                inside = inside if view else shown
            ids = [f"calibration/{number}" for number in range(len(calibration[""]))]
            scores = self._assess(name, calibration, inside, ids)[1] if ids else np.empty(0)
            self.thresholds[name] = upper_quantile(scores, FALSE_POSITIVE_RATE)
            record[name]["threshold"] = self.thresholds[name]
        return record

    @property
    def views(self) -> tuple[str, ...]:
        """The picture as it is (empty), and the query views that are scored beside it."""
        return ("", *self.method.bank.queries)

    def threshold(self, category: str | None) -> float | None:
        """Image score above which an image is called anomalous; None where there were too few normal images."""
        return self.thresholds.get(self._part(category))

    def score(
        self,
        tokens: np.ndarray,
        category: str | None,
        viewed: Mapping[str, np.ndarray] | None = None,
        inside: np.ndarray | None = None,
        image_ids: Sequence[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Patch scores [B,N] and image scores [B], float32, of raw patch tokens [B,N,D].

        Args:
            tokens: of the pictures as they are.
            category: of the pictures, where the model has one detector each.
            viewed: query view -> tokens of the pictures under it, for every one of :attr:`views` but the first.
            inside: [B,N] bool, patches that count in the image scores; None = all. The others are padding.
            image_ids: of the pictures; only methods that draw their scores from them need any.

        Raises:
            UserError: the model has one detector a category and none for ``category``; it needs ids and was given none.
        """
        name = self._part(category)
        raw = {"": tokens, **(viewed or {})}
        prepared = {view: self.parts[_key(name, view)][0].apply(raw[view]) for view in self.views}
        return self._assess(name, prepared, inside, image_ids)

    def _assess(
        self,
        name: str,
        prepared: Mapping[str, np.ndarray],
        inside: np.ndarray | None,
        image_ids: Sequence[str] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`score`, of prepared tokens by view: maps of query views are turned back, and all are summed."""
        patch_scores: np.ndarray | None = None
        own: np.ndarray | None = None
        for view in self.views:
            detector = self.parts[_key(name, view)][1]
            if hasattr(detector, "score_images"):
                found, images = detector.score_images(prepared[view], seen_inside(any_padding(inside), view))
                own = images if own is None else own + images
            elif hasattr(detector, "score_named"):
                if image_ids is None:
                    raise UserError(f"{self.method.id}: its scores come from the images' ids, and none were given")
                found = detector.score_named(prepared[view], image_ids)
            else:
                found = detector.score(prepared[view])
            if view:
                grid = self.encoder.grid
                found = turned_back(found.reshape(-1, grid, grid), view).reshape(found.shape)
            patch_scores = found if patch_scores is None else patch_scores + found
        assert patch_scores is not None, "the first view is the picture itself"
        return patch_scores, self.image_scores(patch_scores, inside) if own is None else own

    def image_scores(self, patch_scores: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
        """Image scores [B] float32 of patch scores [B,N]: the mean of the largest ones (paper section 3).

        Their number is the method's key ``top_share`` or ``top_k``, else the dataset's; with the key ``score_size`` they are
        pixels of the smoothed map instead of patches.

        Args:
            inside: [B,N] bool, patches that count, at least one an image; None = all. The others are padding.
        """
        values, size = patch_scores, self.method.score_size
        if size is not None:
            from foundad.metrics.maps import smooth, upsample

            square = (-1, self.encoder.grid, self.encoder.grid)
            shown = patch_scores if inside is None else filled(patch_scores, inside)
            maps = upsample(shown.reshape(square), (size, size))
            # The key counts pixels at the encoder's image size.
            deviation = self.method.smoothing * size / self.encoder.image_size
            values = (smooth(maps, deviation) if deviation else maps).reshape(len(maps), -1)
            if inside is not None:
                shares = upsample(inside.reshape(square).astype(np.float32), (size, size))
                inside = (shares >= 0.5 * shares.max(axis=(1, 2), keepdims=True)).reshape(len(maps), -1)
        if inside is None:
            return self._mean_of_largest(values)
        rows = (self._mean_of_largest(row[kept][None]) for row, kept in zip(values, inside, strict=True))
        return np.concatenate([np.empty(0, np.float32), *rows])

    def _mean_of_largest(self, values: np.ndarray) -> np.ndarray:
        """Of [B,n], by the number that the keys say, [B] float32."""
        share = self.method.top_share
        count = self.top_k if share is None else max(1, int(share * values.shape[1]))
        return top_k_mean(values, count)

    def _part(self, category: str | None) -> str:
        if POOLED in self.parts:
            return POOLED
        if category not in self.parts:
            raise UserError(
                f"category '{category}': this model knows {', '.join(self.thresholds)}; name one with --category"
            )
        return str(category)

    def save(self, path: Path, key: str = "") -> None:
        """Write the model, whole or not at all; settings travel with it, so that it is usable by itself."""
        arrays = dict(self._arrays())
        facts = {
            "method": config.dump(self.method),
            "encoder": config.dump(self.encoder),
            "seed": self.seed,
            "top_k": self.top_k,
            "parts": list(self.parts),
            "thresholds": self.thresholds,
            "origin": self.origin,
            "precision": self.precision,
        }
        write_tensors(path, Seal("model", key, facts), arrays)

    def _arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        for name, (preparation, detector) in self.parts.items():
            yield f"{name}/mean", preparation.mean
            yield f"{name}/deviation", preparation.deviation
            for key, array in detector.state().items():
                yield f"{name}/state/{key}", np.ascontiguousarray(array)

    @classmethod
    def load(cls, path: Path, compute: Compute = ON_CPU, key: str | None = None) -> "Model":
        """Read what :meth:`save` wrote, under ``key`` (None: any); nothing in the file is executed.

        Raises:
            BrokenFile: it is damaged, of another key, or no model.
        """
        arrays, seal = read_tensors(path, "model", key)
        try:
            return cls._restored(arrays, seal.facts, compute)
        except (ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError) as error:
            raise broken(path, f"is no model that this version knows ({error})") from None

    @classmethod
    def _restored(cls, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any], compute: Compute) -> "Model":
        method = registry.settings_of(facts["method"]["detector"]).model_validate(facts["method"])
        encoder = config.Encoder.model_validate(facts["encoder"])
        model = cls(method, encoder, facts["seed"], facts["top_k"], compute)
        model.thresholds, model.origin, model.precision = facts["thresholds"], facts["origin"], facts["precision"]
        for name in facts["parts"]:
            preparation = Preparation(encoder.tokens, arrays[f"{name}/mean"], arrays[f"{name}/deviation"])
            detector = registry.build(method, model.seed, model.compute)
            prefix = f"{name}/state/"
            detector.restore({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
            model.parts[name] = (preparation, detector)
        return model
