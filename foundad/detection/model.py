"""The Model that a cell saves: its detectors, their preparation of tokens and how to score with them.

Stands at the end of ``fit`` and behind ``foundad predict``. Works on numpy arrays, so that a method without torch never
imports it. It does not train anything and does not read images.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foundad import config
from foundad.data.views import turned_back
from foundad.detection import registry
from foundad.detection.bank import BankTokens, Preparation
from foundad.detection.padding import any_padding, filled, seen_inside
from foundad.detection.protocol import Detector
from foundad.device import ON_CPU, Compute
from foundad.errors import UserError
from foundad.scores import top_k_mean
from foundad.sealed import Seal, broken, read_tensors, write_tensors

POOLED = "pooled"
FALSE_POSITIVE_RATE = 0.05  # that the threshold of a model aims at


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
