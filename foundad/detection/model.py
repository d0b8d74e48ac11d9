"""The Model that a cell saves: its detectors, their preparation of tokens, and how to score with them.

The stage ``fit`` writes it and ``foundad predict`` reads it. It works on numpy arrays, so a method without torch never
imports torch. It reads no images.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote

import numpy as np

from foundad.config.base import dump
from foundad.config.encoder import Encoder
from foundad.config.method import Method
from foundad.data.patches import any_padding, filled, seen_inside, turned_back
from foundad.detection import registry
from foundad.detection.bank import BankTokens, Preparation
from foundad.detection.contrast import contrasted
from foundad.detection.pictures import Pictures, Unread
from foundad.detection.protocol import Detector
from foundad.device import ON_CPU, Compute, Precision
from foundad.errors import UserError
from foundad.paths import PATCH
from foundad.scores import top_k_mean
from foundad.sealed import Seal, broken, read_tensors, write_tensors

POOLED = "pooled"  # name of the part for all categories in files and records
FALSE_POSITIVE_RATE = 0.05  # target of a model's threshold


class Part(NamedTuple):
    """A part of a model, for one category (None = all) and one query view (empty = pictures as they are)."""

    category: str | None = None
    view: str = ""

    @property
    def name(self) -> str:
        """Name in the file of a model: ``pooled`` or the category, then ``@`` and the query view if there is one.

        A category whose name is ambiguous there, such as ``pooled``, is percent-encoded after an ``@``.
        """
        name = POOLED if self.category is None else self.category
        if self.category is not None and _is_ambiguous(self.category):
            name = f"@{quote(self.category, safe='')}"
        return f"{name}@{self.view}" if self.view else name

    @classmethod
    def named(cls, name: str) -> "Part":
        """The part whose :attr:`name` is ``name``."""
        category, _, view = name.removeprefix("@").partition("@")
        if name.startswith("@"):
            return cls(unquote(category), view)
        return cls(None if category == POOLED else category, view)


def _is_ambiguous(category: str) -> bool:
    """Whether the name could mean the pooled part, a part of a query view, or arrays of another part."""
    inside = f"{category}/"
    return (
        category in ("", POOLED)
        or "@" in category
        or any(f"/{own}/" in inside for own in ("mean", "deviation", "state"))
    )


def upper_quantile(scores: np.ndarray, rate: float) -> float | None:
    """The threshold that a new normal image exceeds with probability at most ``rate``, from normal ``scores`` [n].

    It is the ceil((n + 1) * (1 - rate))-th smallest score (split conformal prediction, Vovk et al.). The bound holds
    for any distribution and any n if the scores are exchangeable with the new one. None if n is too small (below 19 at
    0.05).
    """
    position = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return float(np.sort(scores)[position - 1]) if position <= len(scores) else None


class Model:
    """A fitted method with everything that scoring needs: the contents of a cell's ``model.safetensors``."""

    def __init__(
        self,
        method: Method,
        encoder: Encoder,
        seed: int,
        top_k: int,
        compute: Compute = ON_CPU,
    ) -> None:
        self.method = method
        self.encoder = encoder
        self.seed = seed
        self.top_k = top_k
        self.compute = compute
        self.parts: dict[Part, tuple[Preparation, Detector]] = {}
        self.thresholds: dict[str | None, float | None] = {}  # by category; None: of all
        self.precision: Precision = compute.precision  # that it was fitted in, and that its threshold belongs to
        self.origin: dict[str, float] = {}  # of an imported checkpoint: its epoch and learning rate

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Fit one detector on the whole bank or one per category (key ``scope``); returns the detectors' records."""
        bank = replace(bank, layers=self.encoder.layers)
        if self.method.scope == "pooled" or not bank.normal_categories:
            return {POOLED: self._fit_part(None, bank)}
        return {
            category: self._fit_part(category, bank.of(category)) for category in sorted(set(bank.normal_categories))
        }

    def _fit_part(self, category: str | None, bank: BankTokens) -> dict[str, Any]:
        """Fit the detectors of one category (None = all), one per view, and set its threshold; returns the record."""
        record: dict[str, Any] = {}
        calibration: dict[str, Pictures] = {}
        for view in self.views:
            seen = bank.under(view)
            preparation = Preparation.of(self.encoder.tokens, seen.normal_vectors())
            detector = registry.build(self.method, self.seed, self.compute)
            prepared = seen.prepared(preparation)
            details = detector.fit(prepared)
            record = record or details | {"state_bytes": 0}
            record["state_bytes"] += sum(array.nbytes for array in detector.state().values())
            self.parts[Part(category, view)] = (preparation, detector)
            calibration[view] = self._told(prepared.calibration())
        learns = self.method.draws and len(calibration[""].tokens)
        scores = self._assess(category, calibration)[1] if learns else np.empty(0)
        self.thresholds[category] = upper_quantile(scores, FALSE_POSITIVE_RATE)
        return record | {"threshold": self.thresholds[category]}

    @property
    def views(self) -> tuple[str, ...]:
        """The views that are scored: the picture as it is (the empty name), then the query views."""
        return ("", *self.method.bank.queries)

    def threshold(self, category: str | None) -> float | None:
        """Image score above which an image is called anomalous; None if there were too few normal images to set one."""
        return self.thresholds.get(self._scored_by(category))

    @property
    def arrays(self) -> tuple[str, ...]:
        """The arrays of the encoder that scoring needs, by name: patch tokens, and what the method needs beside them."""
        return (PATCH, *self.method.arrays)

    def score(
        self,
        viewed: Mapping[str, Mapping[str, np.ndarray | Unread]],
        category: str | None,
        inside: np.ndarray | None = None,
        image_ids: Sequence[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Patch scores [B,N] and image scores [B], float32, of what the encoder gives.

        Args:
            viewed: view -> name -> array of the pictures under that view, for all of :attr:`views` and :attr:`arrays`:
                ``patch``, raw patch tokens [B,N,D], which may be unread for a method that needs the test set, and
                others, such as ``class`` [B,C].
            category: of the pictures; needed if the model has one detector per category.
            inside: [B,N] bool, patches that count in the image scores; None = all. The others are padding.
            image_ids: of the pictures; only needed by methods that draw their scores from the ids.

        Raises:
            UserError: the model has no detector for ``category``, or it needs ids and was given none.
        """
        part, shown = self._scored_by(category), any_padding(inside)
        if "ids" in self.method.needs and image_ids is None:
            raise UserError(f"{self.method.id}: its scores come from the images' ids, and none were given")
        pictures = {}
        for view in self.views:
            tokens = self._prepared(self.parts[Part(part, view)][0], viewed[view][PATCH])
            arrays = {name: np.asarray(viewed[view][name], np.float32) for name in self.method.arrays}
            pictures[view] = self._told(Pictures(tokens, seen_inside(shown, view), arrays, image_ids or ()))
        return self._assess(part, pictures)

    def _prepared(self, preparation: Preparation, tokens: np.ndarray | Unread) -> np.ndarray:
        """Raw patch tokens as the method reads them; unread ones have of an array what such methods use."""
        if "test set" not in self.method.needs:
            assert not isinstance(tokens, Unread), "only a method that needs the test set reads tokens itself"
            return preparation.apply(tokens)
        unread = tokens if isinstance(tokens, Unread) else Unread.of(tokens)
        return cast(np.ndarray, unread.prepared(preparation.apply))

    def _told(self, pictures: Pictures) -> Pictures:
        """The pictures with ids only if the method needs them."""
        return pictures if "ids" in self.method.needs else replace(pictures, ids=())

    def _assess(self, category: str | None, pictures: Mapping[str, Pictures]) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`score`, for prepared pictures by view. Maps of query views are turned back, then all are summed.

        The key ``contrast`` changes the sum. Image scores that a detector gives itself stay as they are.
        """
        patch_scores: np.ndarray | None = None
        own: np.ndarray | None = None
        for view in self.views:
            found, images = self.parts[Part(category, view)][1].score_pictures(pictures[view])
            if images is not None:
                own = images if own is None else own + images
            if view:
                grid = self.encoder.grid
                found = turned_back(found.reshape(-1, grid, grid), view).reshape(found.shape)
            patch_scores = found if patch_scores is None else patch_scores + found
        assert patch_scores is not None, "the first view is the picture itself"
        inside = pictures[""].inside
        if self.method.contrast is not None:
            patch_scores = contrasted(patch_scores, self.method.contrast, inside)
        return patch_scores, self.image_scores(patch_scores, inside) if own is None else own

    def image_scores(self, patch_scores: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
        """Image scores [B] float32 of patch scores [B,N]: the mean of the largest ones (paper section 3).

        The method's key ``top_share`` or ``top_k`` sets how many, else the dataset's ``top_k``. With the key
        ``score_size`` they are pixels of the smoothed map instead of patches.

        Args:
            inside: [B,N] bool, patches that count, at least one per image; None = all. The others are padding.
        """
        values, size = patch_scores, self.method.score_size
        if size is not None:
            from foundad.metrics.maps import smooth, upsample

            square = (-1, self.encoder.grid, self.encoder.grid)
            shown = patch_scores if inside is None else filled(patch_scores, inside)
            maps = upsample(shown.reshape(square), (size, size))
            # ``smoothing`` is in pixels at the encoder's image size.
            deviation = self.method.smoothing * size / self.encoder.image_size
            values = (smooth(maps, deviation) if deviation else maps).reshape(len(maps), -1)
            if inside is not None:
                shares = upsample(inside.reshape(square).astype(np.float32), (size, size))
                inside = (shares >= 0.5 * shares.max(axis=(1, 2), keepdims=True)).reshape(len(maps), -1)
        return top_k_mean(values, self.top_k, inside, self.method.top_share)

    def _scored_by(self, category: str | None) -> str | None:
        """The category whose part scores pictures of ``category``; None where one part scores all."""
        if Part() in self.parts:
            return None
        if category is None or Part(category) not in self.parts:
            known = ", ".join(str(known) for known in self.thresholds)
            raise UserError(f"category '{category}': this model knows {known}; name one with --category")
        return category

    def save(self, path: Path, key: str = "") -> None:
        """Write the whole model or nothing. The file holds the settings too, so it can be used alone."""
        arrays = dict(self._arrays())
        facts = {
            "method": dump(self.method),
            "encoder": dump(self.encoder),
            "seed": self.seed,
            "top_k": self.top_k,
            "parts": [part.name for part in self.parts],
            "thresholds": {Part(category).name: value for category, value in self.thresholds.items()},
            "origin": self.origin,
            "precision": self.precision,
        }
        write_tensors(path, Seal("model", key, facts), arrays)

    def _arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        for part, (preparation, detector) in self.parts.items():
            yield f"{part.name}/mean", preparation.mean
            yield f"{part.name}/deviation", preparation.deviation
            for key, array in detector.state().items():
                yield f"{part.name}/state/{key}", np.ascontiguousarray(array)

    @classmethod
    def load(cls, path: Path, compute: Compute = ON_CPU, key: str | None = None) -> "Model":
        """Read what :meth:`save` wrote under ``key`` (None = any). Nothing in the file is executed.

        Raises:
            BrokenFile: the file is damaged, has another key, or is not a model.
        """
        arrays, seal = read_tensors(path, "model", key)
        try:
            return cls._restored(arrays, seal.facts, compute)
        except (ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError) as error:
            raise broken(path, f"is not a model that this version can read ({error})") from None

    @classmethod
    def _restored(cls, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any], compute: Compute) -> "Model":
        method = registry.settings_of(facts["method"]["detector"]).model_validate(facts["method"])
        encoder = Encoder.model_validate(facts["encoder"])
        model = cls(method, encoder, facts["seed"], facts["top_k"], compute)
        model.thresholds = {Part.named(name).category: value for name, value in facts["thresholds"].items()}
        model.origin, model.precision = facts["origin"], facts["precision"]
        for name in facts["parts"]:
            preparation = Preparation(encoder.tokens, arrays[f"{name}/mean"], arrays[f"{name}/deviation"])
            detector = registry.build(method, model.seed, model.compute)
            prefix = f"{name}/state/"
            detector.restore({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
            model.parts[Part.named(name)] = (preparation, detector)
        return model
